//! The rate at which deliveries are settled, as the store counts them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use evented::App;
use evented_tests::{clock, figures::per_second};
use tokio::{task::JoinHandle, time::sleep};

/// How often the store is asked.
const LOOK: Duration = Duration::from_millis(50);
/// The time over which a rate is taken.
const WINDOW: Duration = Duration::from_secs(1);

/// How many deliveries were settled at which moments, from the start on. Dropping it ends it.
pub struct Rate {
    samples: Samples,
    task: JoinHandle<()>,
}

type Samples = Arc<Mutex<Vec<Sample>>>;

#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    settled: u64,
}

impl Sample {
    fn rate_since(self, earlier: Self) -> f64 {
        per_second(self.settled.saturating_sub(earlier.settled), self.at.saturating_sub(earlier.at))
    }
}

impl Rate {
    pub fn watch(app: App) -> Self {
        let samples = Samples::default();
        let task = tokio::spawn(sample(app, Arc::clone(&samples)));
        Self { samples, task }
    }

    /// The rate between two moments, as the samples between them tell it; `None` where there are not two.
    pub fn between(&self, from: Duration, to: Duration) -> Option<f64> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = samples.iter().filter(|sample| (from..=to).contains(&sample.at));
        let (first, last) = (inside.next()?, inside.next_back()?);
        Some(last.rate_since(*first))
    }

    /// The end of the first second after a moment in which at least `wanted` a second were settled, and from whose beginning on
    /// there is no time of the length `steady` with fewer: a second alone may be one before the trouble comes. `None` while there
    /// is none.
    pub fn reached(&self, wanted: f64, after: Duration, steady: Duration) -> Option<Duration> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let since = &samples[samples.partition_point(|sample| sample.at < after)..];
        // The first sample that lies so far behind another.
        let behind = |first: &Sample, time: Duration| {
            since.get(since.partition_point(|sample| sample.at < first.at + time)).copied()
        };
        let is_slow = |first: &Sample, time| behind(first, time).is_some_and(|last| last.rate_since(*first) < wanted);
        let from = since.iter().rposition(|first| is_slow(first, steady)).map_or(0, |slow| slow + 1);
        let whole = since[from..].iter().take_while(|first| behind(first, steady).is_some());
        whole
            .filter_map(|first| behind(first, WINDOW).filter(|_| !is_slow(first, WINDOW)))
            .map(|second| second.at)
            .next()
    }
}

impl Drop for Rate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sample(app: App, samples: Samples) {
    loop {
        // A moment at which the store cannot be read is no sample.
        if let Ok(counts) = app.counts().await {
            let settled = counts.iter().map(|count| count.done).sum();
            let sample = Sample { at: clock::now(), settled };
            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
        sleep(LOOK).await;
    }
}
