//! What changed: told within this process at once, and found by looking for what other processes and the application's own
//! transactions commit. MySQL has nothing that would tell.
//!
//! One statement looks for all that waits: what stands first in each index of what is due, and what the catalogue is. It is
//! asked often after a sign that something may come, then ever less, once a second in the end. A commit that it misses is
//! one behind something else that is due, which is being looked at anyway.

use std::{
    sync::{
        Arc, Mutex as SyncMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{MySqlConnection, Row as _};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{error::in_one_line, time};

use super::{
    identity::generation,
    link::{Link, Running, sql},
};

/// How soon it is looked after a sign, and after a change, which others may follow; and how seldom in the end.
const LOOK: Duration = Duration::from_millis(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The store's mark, and who moves it.
pub(super) struct Changes {
    mark: watch::Sender<u64>,
    stirred: Notify,
    link: Link,
    begun: AtomicBool,
    task: SyncMutex<Option<AbortHandle>>,
}

impl Changes {
    pub(super) fn new(link: Link) -> Arc<Self> {
        Arc::new(Self {
            mark: watch::channel(0).0,
            stirred: Notify::new(),
            link,
            begun: AtomicBool::new(false),
            task: SyncMutex::default(),
        })
    }

    /// Something has changed here.
    pub(super) fn tell(&self) {
        self.mark.send_modify(|mark| *mark += 1);
    }

    /// Looks closely for a while: a commit may come any moment.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    pub(super) async fn wait(self: &Arc<Self>, seen: u64, most: Duration) -> u64 {
        // From when somebody asks for the first time.
        if !self.begun.swap(true, Ordering::Relaxed) {
            let task = tokio::spawn(Arc::clone(self).look()).abort_handle();
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
        let mut mark = self.mark.subscribe();
        let _timed_out = time::within(most, mark.wait_for(|mark| *mark != seen)).await.is_none();
        *self.mark.borrow()
    }

    async fn look(self: Arc<Self>) {
        let mut gap = LOOK;
        // The first look finds a change: what came before it, nobody may have seen.
        let mut seen = String::new();
        loop {
            match self.link.run(&(), state).await {
                Ok(state) if state != seen => {
                    seen = state;
                    self.tell();
                    gap = LOOK_AGAIN;
                }
                Ok(_) => {}
                // Whoever reads or writes says what is wrong.
                Err(error) => {
                    tracing::debug!(error = %in_one_line(&error), "cannot look for other processes' changes; later");
                    gap = LOOK_MAX;
                }
            }
            if time::within(gap, self.stirred.notified()).await.is_some() {
                gap = LOOK;
                time::sleep(gap).await;
            } else {
                gap = (gap * 2).min(LOOK_MAX);
            }
        }
    }

    /// Ends what goes on by itself.
    pub(super) fn close(&self) {
        self.begun.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// A text that is another one after a change that somebody may wait for.
fn state<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, String> {
    Box::pin(async move {
        let row = sql(concat!(
            "select concat_ws(' ', ",
            generation!(),
            ",
                (select count(*) from evented_queues where paused),
                (select feeds from evented_schema),
                (select due_at from evented_outbox force index (evented_outbox_next)
                    where target is null order by due_at limit 1),
                (select due_at from evented_outbox force index (evented_outbox_next)
                    where target = '' order by due_at limit 1),
                (select due_at from evented_outbox force index (evented_outbox_next)
                    where target = (select feeds from evented_schema) order by due_at limit 1),
                coalesce((select max(seq) from evented_outbox), 0),
                coalesce((select max(seq) from evented_deliveries), 0),
                coalesce((select sum((select d.due_at from evented_deliveries d force index (evented_deliveries_due)
                    where d.handler = h.num order by d.due_at limit 1)) from evented_handlers h), 0))"
        ))
        .fetch_one(conn)
        .await?;
        row.try_get(0)
    })
}
