//! Notices the commit of a transaction of which nobody tells: after an emit in it, the outbox is looked at for a while.
//!
//! The answer is told to all processes, so that one which only emits wakes those that relay. A transaction that commits
//! later than that is found by the relays, which look by themselves. The transaction itself is given no NOTIFY: at its commit
//! that takes a lock which all databases of the server share.

use std::{sync::Arc, time::Duration};

use sqlx::Row as _;
use tokio::sync::Notify;

use crate::{error::in_one_line, time};

use super::{link::Link, listen::Changes, sql};

/// How soon after an emit the outbox is looked at, and how seldom in the end.
const SOON: Duration = Duration::from_millis(5);
const SELDOM: Duration = Duration::from_secs(1);

/// Looks whenever it is stirred, until the store is closed.
pub(super) async fn look_when_stirred(link: Link, stirred: Arc<Notify>, changes: Arc<Changes>) {
    loop {
        stirred.notified().await;
        let mut gap = SOON;
        while gap <= SELDOM {
            time::sleep(gap).await;
            // Whoever emits meanwhile is looked for from the beginning.
            gap = if time::within(Duration::ZERO, stirred.notified()).await.is_some() { SOON } else { gap * 2 };
            match link.run(&(), |session, ()| Box::pin(is_due(session))).await {
                Ok(true) => changes.tell(),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(error = %in_one_line(&error), "could not look for committed events; the relay will");
                    break;
                }
            }
        }
    }
}

async fn is_due(session: &mut super::link::Session) -> Result<bool, sqlx::Error> {
    let row = session
        .sql(concat!(
            "select exists (select from evented_outbox where target is null and due_at <= (select ",
            sql::now_ms!(),
            "))"
        ))
        .fetch_one(&mut session.conn)
        .await?;
    row.try_get(0)
}
