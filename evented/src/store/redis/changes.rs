//! What tells a waiting worker that the store may have changed: this process itself, and a channel for the others.
//!
//! The channel is never trusted alone, a worker looks by itself from time to time. A subscription that broke is made again,
//! and counts as a change, since what was told meanwhile is not known. One that is half open, where the other side is gone
//! and nobody says so, is found by asking over it.

use std::{sync::Arc, time::Duration};

use redis::{Client, PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};

use crate::{id::LeaseToken, time};

use super::link::connect;

/// How often the subscription is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(3);
const PONG: Duration = Duration::from_secs(5);
/// The waits before a subscription is made again.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(super) struct Changes {
    mark: watch::Sender<u64>,
    /// Sent with what this process changes: it knows already.
    origin: [u8; 8],
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { mark: watch::Sender::new(0), origin: LeaseToken::mint().to_i64().to_be_bytes() }
    }

    pub(super) fn origin(&self) -> &[u8] {
        &self.origin
    }

    /// This process changed the store.
    pub(super) fn here(&self) {
        self.mark.send_modify(|mark| *mark += 1);
    }

    pub(super) async fn wait(&self, seen: u64, most: Duration) -> u64 {
        let mut mark = self.mark.subscribe();
        let _timed_out = time::within(most, mark.wait_for(|mark| *mark != seen)).await.is_none();
        *self.mark.borrow()
    }
}

/// Listens for what other processes change, until it is aborted.
pub(super) async fn listen(client: Client, channel: String, changes: Changes) {
    let mut wait = AGAIN;
    loop {
        let began = time::now();
        // Whoever reads or writes says what is wrong.
        subscribe(&client, &channel, &changes).await;
        changes.here();
        wait = if began.elapsed() > AGAIN_MAX { AGAIN } else { (wait * 2).min(AGAIN_MAX) };
        time::sleep(wait).await;
    }
}

/// Returns when the subscription is not, or no more.
async fn subscribe(client: &Client, channel: &str, changes: &Changes) {
    let ended = Arc::new(Notify::new());
    let told = {
        let (ended, changes) = (Arc::clone(&ended), changes.clone());
        move |push: PushInfo| match push.kind {
            PushKind::Disconnection => ended.notify_one(),
            PushKind::Message if push.data.last() != Some(&Value::BulkString(changes.origin.to_vec())) => {
                changes.here();
            }
            _ => {}
        }
    };
    let Ok(mut line) = connect(client, Arc::new(told)).await else { return };
    let Some(Ok(())) = time::within(PONG, line.subscribe(channel)).await else { return };
    // What was told before now was not heard.
    changes.here();
    loop {
        tokio::select! {
            () = time::sleep(PING) => {}
            () = ended.notified() => return,
        }
        let pong = redis::cmd("PING");
        let Some(Ok(Value::SimpleString(_) | Value::Okay)) = time::within(PONG, pong.query_async(&mut line)).await
        else {
            return;
        };
    }
}
