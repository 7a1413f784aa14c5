//! The event that is drained and enqueued: a payload of 60 bytes, and a handler that does nothing but count.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use evented::{App, prelude::*};
use serde::{Deserialize, Serialize};

/// What an event of this module is encoded in.
pub const PAYLOAD_BYTES: u64 = 60;

/// The most that one `emit_all` takes.
const EVENTS_MAX: u64 = 10_000;

#[event]
#[derive(Serialize, Deserialize)]
pub struct Placed {
    order_id: u64,
    email: String,
}

impl Placed {
    pub fn new(number: u64) -> Self {
        Self { order_id: 1_000_000_000 + number, email: "ada.lovelace@example.co.uk".to_owned() }
    }
}

#[handler(Placed, background)]
async fn take(_event: Placed) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// How many were handled since the process began.
pub fn taken() -> u64 {
    TAKEN.load(Ordering::Relaxed)
}

/// An instance that emits only, of this module's handler alone, on a store.
pub async fn emitter(url: &str) -> anyhow::Result<App> {
    Ok(evented::run().install(false).module(module_path!()).role(Role::Emit).queue(url).await?)
}

/// An instance as an application has it, of this module's handler alone, on a store.
pub async fn worker(url: &str) -> anyhow::Result<App> {
    Ok(evented::run().install(false).module(module_path!()).queue(url).await?)
}

/// Makes evented's tables in a new store, with this module's handler, and so many deliveries that wait.
pub async fn fill(url: &str, deliveries: u64) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&Placed::new(0))?.len();
    ensure!(u64::try_from(bytes)? == PAYLOAD_BYTES, "a payload has {bytes} bytes");
    let app = emitter(url).await?;
    let mut left = deliveries;
    while left > 0 {
        let some = left.min(EVENTS_MAX);
        app.emit_all((0..some).map(Placed::new)).await?;
        left -= some;
    }
    app.stop().await;
    Ok(())
}
