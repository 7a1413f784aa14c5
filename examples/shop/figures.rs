//! What the handlers of this process count and time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evented::prelude::*;

/// The shop's metrics. A clone counts in the same place: one goes to the handlers, one stays to be read.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    revenue_cents: AtomicI64,
}

impl Metrics {
    pub fn count(&self, accepted: bool, total_cents: i64) {
        if accepted {
            self.0.accepted.fetch_add(1, Relaxed);
            self.0.revenue_cents.fetch_add(total_cents, Relaxed);
        } else {
            self.0.refused.fetch_add(1, Relaxed);
        }
    }

    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Relaxed)
    }

    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    pub fn revenue_cents(&self) -> i64 {
        self.0.revenue_cents.load(Relaxed)
    }
}

/// How long deliveries took from the emit to the end of their handler, waits and retries included.
#[derive(Clone, Default)]
pub struct Timings(Arc<Mutex<HashMap<&'static str, Vec<Duration>>>>);

impl Timings {
    /// Called by a handler at its end.
    pub fn record(&self, handler: &'static str, delivery: &Delivery) {
        // A clock that was set back says nothing useful.
        let took = delivery.emitted_at().elapsed().unwrap_or_default();
        let mut durations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        durations.entry(handler).or_default().push(took);
    }

    /// The smallest duration that `percent` of the deliveries did not exceed; `None` when there was none.
    pub fn percentile(&self, handler: &str, percent: usize) -> Option<Duration> {
        let durations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted = durations.get(handler)?.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied()
    }
}
