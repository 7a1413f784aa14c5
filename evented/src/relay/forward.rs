//! Forwarding: what goes elsewhere of leased outbox rows is pushed to the queue store, and then the rows are finished.
//!
//! A push that may be repeated has an end by the queue store's clock: a third of the rows' lease after what that clock said
//! before they were leased. So a push which was held up on its way arrives in time, or is refused; it never comes after the
//! push of the relay that took the rows next. What one push has stored is remembered there until the rows are finished, and
//! for a while after that, for the sake of a first try that overtakes its repetition.
//!
//! Rows are pushed in the order in which they were written, some at a time: few bytes, and after a failure half as many rows,
//! down to one. One that the queue refuses alone stands aside with its error, and holds up only what has its order key.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    error::{StoreError, Written, in_one_line},
    health::Trouble,
    id::{DeliveryId, Key},
    instance::Instance,
    store::{Fan, Identity, NewDelivery, Outbox, OutboxRow, Push, Pushed, PutBack, Store, StoreTime},
    time::{self, Instant},
    worker::Shared,
};

use super::{ROWS_MAX, fan};

/// At most so many bytes of payloads in one push, unless a single row has more: each handler has its own copy. A slow network
/// carries them in a few seconds.
const BYTES_MAX: usize = 2 << 20;
/// For how long a push may be repeated at the most, however long the lease: marks outlive it.
const PUSH_MAX: Duration = Duration::from_mins(1);
/// For how long a reading of the queue's clock is good: clocks go at almost the same pace.
const CLOCK_GOOD_FOR: Duration = Duration::from_mins(1);
/// After so many rows that stand aside one after the other the queue is left alone for a moment: it may refuse them all.
const ASIDE_MAX: usize = 8;
/// How long.
const REFUSING: Duration = Duration::from_secs(1);
/// The same after a push that came too late: at first, and after many.
const LATE_FIRST: Duration = Duration::from_millis(100);
const LATE_MAX: Duration = Duration::from_secs(5);
/// How long a row counts as aside after it was to be tried again: another relay may have it, or a person.
const ASIDE_KNOWN: Duration = Duration::from_mins(2);
/// How many are told.
const ASIDE_TOLD: usize = 1_000;
/// How long a row stands aside that the queue refuses: at first, and after many tries.
const ASIDE_FIRST: Duration = Duration::from_secs(1);
const ASIDE: Duration = Duration::from_mins(1);
/// How many finished deliveries wait at the most for the next push, which carries them.
const FINISHED_MAX: usize = 100_000;

/// A reading of the queue store's clock.
#[derive(Clone, Copy)]
struct Clock {
    said: StoreTime,
    /// When the answer had come, so that what is counted from it is never ahead.
    heard: Instant,
}

impl Clock {
    fn now(self) -> StoreTime {
        self.said.after(self.heard.elapsed())
    }
}

/// What forwards to the queue store: one batch at a time.
pub(super) struct Forwarder {
    shared: Shared,
    outbox: Outbox,
    trouble: Option<(Identity, Trouble)>,
    clock: Option<Clock>,
    /// How many rows the next push has at the most.
    rows: usize,
    /// How long it was left alone after the last push that came too late.
    late: Duration,
    /// After a failure the queue is left alone until then.
    away_until: Option<Instant>,
    /// Deliveries whose rows are finished, for the next push to carry.
    finished: Vec<DeliveryId>,
    /// Rows that stand aside, with what they wait for and how long they did last.
    aside: HashMap<i64, Aside>,
    aside_told: Trouble,
    /// Whether this process's queue is the one that the outbox feeds.
    target_told: Trouble,
    is_target: bool,
}

/// A row that stands aside.
struct Aside {
    why: String,
    /// How long it does.
    delay: Duration,
    /// When it is somebody else's, where it did not come again.
    known_until: Instant,
}

/// Rows that were leased, and until when they may be pushed.
pub(super) struct Batch {
    pub rows: Vec<OutboxRow>,
    pub until: StoreTime,
}

impl Forwarder {
    pub(super) fn new(shared: &Shared, outbox: &Outbox) -> Self {
        let aside_told = shared.instance.health.watch(format!("relaying single events from {}", outbox.about.name()));
        let target_told = shared.instance.health.watch(format!("finding the queue that {} feeds", outbox.about.name()));
        Self {
            shared: shared.clone(),
            outbox: outbox.clone(),
            trouble: None,
            clock: None,
            rows: ROWS_MAX,
            late: Duration::ZERO,
            away_until: None,
            finished: Vec::new(),
            aside: HashMap::new(),
            aside_told,
            target_told,
            is_target: true,
        }
    }

    /// Health is red while the outbox feeds another queue than this process has: one of them was replaced under it.
    pub(super) async fn look_at_target(&mut self) {
        let known = self.aside.len();
        self.aside.retain(|_, aside| aside.known_until > time::now());
        if self.aside.len() < known {
            self.tell_aside().await;
        }
        let (queue, feeds) = (self.instance().queue().map(|queue| queue.about.identity()), self.instance().feeds());
        let is_target = queue.is_none() || self.instance().is_one_store() || queue == feeds;
        if is_target == self.is_target {
            return;
        }
        self.is_target = is_target;
        let told = match (feeds, queue) {
            (None, Some(_)) if !is_target => {
                Err(StoreError::transient("the outbox has not said yet which it is; trying again", Written::Nothing))
            }
            (Some(fed), Some(queue)) if !is_target => Err(StoreError::lasting(
                format!(
                    "it is `{fed}`, and this process has `{queue}`: what goes there waits; name the right one, or call \
                     `evented::adopt` where this one is to take its place"
                ),
                Written::Nothing,
            )),
            _ => Ok(()),
        };
        let _noted = self.target_told.ask(async { told }).await;
    }

    fn instance(&self) -> &Instance {
        &self.shared.instance
    }

    /// The queue that rows are forwarded to: the one that the outbox feeds.
    fn queue(&self) -> Option<Store> {
        let queue = self.instance().queue().filter(|_| !self.instance().is_one_store())?;
        (self.instance().feeds() == Some(queue.about.identity())).then(|| queue.clone())
    }

    /// Until when rows may be pushed that are leased from now on; `None` while they cannot be.
    pub(super) fn until(&self) -> Option<StoreTime> {
        self.queue()?;
        if self.away_until.is_some_and(|until| until > time::now()) {
            return None;
        }
        let clock = self.clock.filter(|clock| clock.heard.elapsed() < CLOCK_GOOD_FOR)?;
        Some(clock.now().after((self.shared.lease / 3).min(PUSH_MAX)))
    }

    /// How long the queue is left alone.
    pub(super) fn away_for(&self) -> Duration {
        self.away_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(time::now()))
    }

    /// Whether there is something to find out before rows can be leased.
    pub(super) fn wants_clock(&self) -> bool {
        self.queue().is_some() && self.away_for().is_zero() && self.until().is_none()
    }

    /// Asks the queue for its clock, and with that whether it is there.
    pub(super) async fn read_clock(mut self) -> Self {
        let Some(queue) = self.queue() else { return self };
        if let Ok(said) = self.ask(&queue, queue.queue.clock()).await {
            self.clock = Some(Clock { said, heard: time::now() });
        }
        self
    }

    /// Pushes rows and finishes them, or puts them back.
    pub(super) async fn forward(mut self, batch: Batch) -> Self {
        let Some(queue) = self.queue() else {
            self.put_back(batch.rows, Duration::ZERO).await;
            return self;
        };
        let mut rest = batch.rows;
        let mut held_up = HashSet::new();
        let mut refused = 0;
        while !rest.is_empty() {
            let over = self.clock.is_none_or(|clock| clock.now() >= batch.until);
            if over || *self.shared.stopping.borrow() {
                break;
            }
            let (some, after) = self.take(rest, &mut held_up).await;
            rest = after;
            if some.is_empty() {
                continue;
            }
            match self.push(&queue, &some, batch.until).await {
                Ok(Pushed::Stored(_)) => {
                    refused = 0;
                    self.late = Duration::ZERO;
                    self.rows = (some.len().max(self.rows / 2) * 2).min(ROWS_MAX);
                    if !self.finish(some).await {
                        break;
                    }
                }
                Ok(Pushed::CatalogueMoved) => {
                    rest.splice(0..0, some.into_iter().map(|(row, _)| row));
                    if let Err(error) = self.instance().refresh().await {
                        tracing::debug!(error = %in_one_line(&error), "the catalogue could not be read; trying again");
                        self.away_until = Some(time::after(REFUSING));
                        break;
                    }
                }
                Ok(Pushed::TooLate) => {
                    // It was long on its way, or the queue's clock was set. Less of it is sooner there.
                    self.clock = None;
                    self.rows = (some.len() / 2).max(1);
                    self.late = (self.late * 2).clamp(LATE_FIRST, LATE_MAX);
                    tracing::warn!(queue = queue.about.name(), lease = ?self.shared.lease, tried_again_in = ?self.late,
                        "relayed events came to the queue too late, after a third of the lease; nothing was stored. Where this \
                         goes on, the network is slow for so short a lease");
                    self.away_until = Some(time::after(self.late));
                    rest.splice(0..0, some.into_iter().map(|(row, _)| row));
                    break;
                }
                Err(error) => {
                    self.rows = (some.len() / 2).max(1);
                    let alone = some.len() == 1;
                    let rows = some.into_iter().map(|(row, fan)| {
                        if alone && !error.is_transient() {
                            held_up.extend(fan.keys_elsewhere());
                        }
                        row
                    });
                    let rows: Vec<_> = rows.collect();
                    if error.is_transient() {
                        // Away, or too much for its network at once; alone, the row lets others go first.
                        rest.splice(0..0, rows);
                        break;
                    }
                    if alone {
                        self.stand_aside(rows, &error).await;
                        refused += 1;
                        if refused == ASIDE_MAX {
                            self.away_until = Some(time::after(REFUSING));
                            break;
                        }
                    } else {
                        rest.splice(0..0, rows);
                    }
                }
            }
        }
        let delay = self.away_for();
        self.put_back(rest, delay).await;
        self
    }

    /// Takes the next rows for one push off the list: not those that an aside row of their order key holds up, which are put back.
    async fn take(&self, rows: Vec<OutboxRow>, held_up: &mut HashSet<Key>) -> (Vec<(OutboxRow, Fan)>, Vec<OutboxRow>) {
        let plans = self.instance().plans();
        let (mut some, mut rest, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut full = false;
        for row in rows {
            if full {
                rest.push(row);
                continue;
            }
            let fan = fan(&row, &plans);
            if fan.keys_elsewhere().iter().any(|key| held_up.contains(key)) {
                held_up.extend(fan.keys_elsewhere());
                waiting.push(row);
                continue;
            }
            let more: usize = fan.elsewhere.iter().map(|delivery| delivery.payload.len()).sum();
            if !some.is_empty() && (bytes + more > BYTES_MAX || some.len() >= self.rows) {
                full = true;
                rest.push(row);
                continue;
            }
            bytes += more;
            some.push((row, fan));
        }
        self.put_back(waiting, ASIDE_FIRST).await;
        (some, rest)
    }

    async fn push(&mut self, queue: &Store, rows: &[(OutboxRow, Fan)], until: StoreTime) -> Result<Pushed, StoreError> {
        let generation = self.instance().plans().queue_generation;
        let deliveries: Vec<NewDelivery> = rows.iter().flat_map(|(_, fan)| fan.elsewhere.iter().cloned()).collect();
        let finished: Arc<[DeliveryId]> = self.finished.as_slice().into();
        let push = Push { until: Some(until), finished, ..Push::of(generation, deliveries).once() };
        let pushed = self.ask(queue, queue.queue.push(push)).await?;
        if pushed.is_stored() {
            self.finished.clear();
        }
        Ok(pushed)
    }

    /// Finishes pushed rows; answers whether the outbox could be asked.
    async fn finish(&mut self, rows: Vec<(OutboxRow, Fan)>) -> bool {
        let ids = |fan: &Fan| fan.elsewhere.iter().map(|delivery| delivery.id).collect::<Vec<_>>();
        let pushed: Vec<_> = rows.iter().map(|(row, fan)| (row.row, ids(fan))).collect();
        match self.outbox.rows.finish(rows.into_iter().map(|(row, _)| row).collect()).await {
            Ok(finished) => {
                // A row that another relay has now is pushed again by it, and must still be remembered.
                for ((row, ids), _) in pushed.into_iter().zip(finished).filter(|(_, finished)| *finished) {
                    self.finished.extend(ids);
                    self.aside.remove(&row);
                }
                // What is beyond is remembered for longer than it need be.
                self.finished.truncate(FINISHED_MAX);
                self.tell_aside().await;
                true
            }
            Err(error) => {
                // Their leases end, they are pushed again, and the queue remembers them.
                tracing::warn!(error = %in_one_line(&error), outbox = self.outbox.about.name(),
                    "relayed events could not be taken out of the outbox; they are relayed again, and stored once");
                false
            }
        }
    }

    /// Puts rows back that the queue refuses.
    async fn stand_aside(&mut self, rows: Vec<OutboxRow>, error: &StoreError) {
        let error = in_one_line(error);
        let mut put_back = Vec::new();
        for row in rows {
            let before = self.aside.get(&row.row).map(|aside| aside.delay);
            let delay = before.map_or(ASIDE_FIRST, |delay| (delay * 2).min(ASIDE));
            tracing::error!(event = %row.event, event_id = %row.event_id, %error, tried_again_in = ?delay,
                "an event of the outbox stands aside: the queue refuses it");
            if self.aside.len() < ASIDE_TOLD || before.is_some() {
                let why = format!("`{}` {}: {error}", row.event, row.event_id);
                let known_until = time::after(delay + ASIDE_KNOWN);
                self.aside.insert(row.row, Aside { why, delay, known_until });
            }
            put_back.push(PutBack { row, delay, error: Some(error.clone()) });
        }
        self.tell_aside().await;
        self.put_all_back(put_back).await;
    }

    /// Health is red while rows stand aside.
    async fn tell_aside(&mut self) {
        let first = self.aside.values().next().map(|aside| aside.why.clone());
        let count = self.aside.len();
        let _noted = self
            .aside_told
            .ask(async move {
                first.map_or(Ok(()), |first| {
                    let text = format!("{count} stand aside, which the queue refuses, of which one is {first}");
                    Err(StoreError::lasting(text, Written::Nothing))
                })
            })
            .await;
    }

    async fn put_back(&self, rows: Vec<OutboxRow>, delay: Duration) {
        self.put_all_back(rows.into_iter().map(|row| PutBack { row, delay, error: None }).collect()).await;
    }

    async fn put_all_back(&self, rows: Vec<PutBack>) {
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.outbox.rows.put_back(rows).await {
            // Their leases end by themselves.
            tracing::debug!(error = %in_one_line(&error), "outbox rows could not be given back; they come with their leases' end");
        }
    }

    /// Tells the queue at the end what is finished.
    pub(super) async fn close(mut self) {
        let Some(queue) = self.queue().filter(|_| !self.finished.is_empty()) else { return };
        let generation = self.instance().plans().queue_generation;
        let finished = std::mem::take(&mut self.finished).into();
        let push = Push { finished, ..Push::of(generation, []) };
        // What is not told is remembered for longer than it need be.
        let _told = queue.queue.push(push).await;
    }

    /// Asks the queue, and notes how that went.
    async fn ask<T>(
        &mut self,
        queue: &Store,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let identity = queue.about.identity();
        if self.trouble.as_ref().is_none_or(|(of, _)| *of != identity) {
            let what = format!("pushing relayed events to {}", queue.about.name());
            self.trouble = Some((identity, self.instance().health.watch(what)));
        }
        let (_, trouble) = self.trouble.as_mut().expect("it was just made");
        match trouble.ask(asking).await {
            Ok(answer) => {
                self.away_until = None;
                Ok(answer)
            }
            Err((wait, error)) => {
                if error.is_transient() {
                    self.away_until = Some(time::after(wait));
                }
                Err(error)
            }
        }
    }
}
