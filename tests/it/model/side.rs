//! One of the two: a store, what was heard of it so far, and what it answers, as text that can be compared.
//!
//! Tokens and times of the clock are no part of the text, nor is the order in which deliveries of different handlers come.

use std::{collections::HashSet, time::Duration};

use evented::{
    DeliveryId, EventId, Key, Origin, Policy, Priority, SessionId,
    store::{
        AdminStore, CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Lapsed, Lease, Letters, NewDelivery,
        Outcome, Push, Record, Retention, Route, Settlement, Store, StoreTime, Suspects, Swap, UniqueKey,
    },
};

use super::step::{Asked, EVENTS, End, HANDLERS, Life, New, Of, SESSIONS, Step, Way};

/// A lease that ends before the next call.
const SHORT: Duration = Duration::from_millis(1);
/// One that outlives the test.
const LONG: Duration = Duration::from_hours(1);
/// Later than each lease.
const FAR: Duration = Duration::from_hours(24);

/// The queues, and which handlers each has.
const QUEUES: [(&str, &[usize]); 2] = [("letters", &[0, 1]), ("books", &[2])];

pub struct Side {
    stores: [Store; 2],
    asked: usize,
    sessions: [SessionId; SESSIONS.len()],
    began: StoreTime,
    generation: u64,
    /// What it was before it changed last.
    old_generation: u64,
    retired: Vec<String>,
    /// Each lease that was ever had.
    leases: Vec<(usize, Lease)>,
    /// What may have a lease that has ended, and that no claim has come to yet.
    may_have_lapsed: HashSet<DeliveryId>,
    /// When the last claim was told to look again.
    pub next: Option<Duration>,
    /// Whether that call settled anything.
    settled: bool,
    /// Whether more suspects wait, as it was told last.
    pub more: bool,
}

impl Side {
    pub async fn new(stores: [Store; 2]) -> Self {
        let began = stores[0].queue.clock().await.expect("the store tells its clock");
        let mut side = Self {
            stores,
            asked: 0,
            sessions: std::array::from_fn(|_| SessionId::mint()),
            began: StoreTime(began.0 - 1),
            generation: 0,
            old_generation: 1,
            retired: Vec::new(),
            leases: Vec::new(),
            may_have_lapsed: HashSet::new(),
            next: None,
            settled: false,
            more: false,
        };
        side.look().await;
        for handler in 0..3 {
            side.ask(&Step::Record { handler, variant: 0, is_old: false, began_before: false }).await;
            side.look().await;
        }
        for (session, life) in SESSIONS.iter().enumerate() {
            if *life == Life::Lives {
                side.ask(&Step::Extend { session, leases: Vec::new() }).await;
            }
        }
        side
    }

    pub fn close(&self) {
        for store in &self.stores {
            store.about.close();
        }
    }

    /// What it answers.
    pub async fn ask(&mut self, step: &Step) -> String {
        self.asked += 1;
        self.next = None;
        self.more = false;
        match step {
            Step::Push { new, once, end, is_old, finished } => self.push(new, *once, *end, *is_old, finished).await,
            Step::Exchange { settle, claim } => self.exchange(settle, claim.as_ref()).await,
            Step::Suspects { asked, exposed, lived_leases } => self.suspects(asked, *exposed, *lived_leases).await,
            Step::Extend { session, leases } => self.extend(*session, leases).await,
            Step::Leave { session } => answered(self.store().queue.leave(self.sessions[*session]).await),
            Step::Pause { queue, paused } => answered(self.admin().pause(QUEUES[*queue].0.to_owned(), *paused).await),
            Step::Record { handler, variant, is_old, began_before } => {
                let began = if *began_before { self.began } else { self.now().await.after(Duration::from_millis(1)) };
                let handlers = [entry(*handler, *variant)].into();
                let record = Record { generation: self.generation(*is_old), began, handlers };
                answered(self.store().catalogue.record(record).await)
            }
            Step::Retire { handler, is_old } => {
                let (handler, generation) = (HANDLERS[*handler].to_owned(), self.generation(*is_old));
                let answer: Result<Swap<bool>, _> = self.store().catalogue.retire(handler, generation).await;
                answered(answer)
            }
            Step::Requeue { letters, before } => self.in_steps(letters, *before, true).await,
            Step::Discard { letters, before } => self.in_steps(letters, *before, false).await,
            Step::Sweep { all_old, count } => {
                let age = if *all_old { Duration::ZERO } else { FAR };
                let mut deleted = 0;
                loop {
                    let swept = self.admin().sweep(Retention { age, count: *count }).await.expect("it sweeps");
                    deleted += swept.dead_letters;
                    if !swept.more {
                        break format!("{deleted} letters");
                    }
                }
            }
        }
    }

    fn store(&self) -> &Store {
        &self.stores[self.asked % 2]
    }

    fn admin(&self) -> &dyn AdminStore {
        self.store().admin.as_deref().expect("each store here can be asked")
    }

    async fn now(&self) -> StoreTime {
        self.store().queue.clock().await.expect("the store tells its clock")
    }

    fn generation(&self, is_old: bool) -> u64 {
        if is_old { self.old_generation } else { self.generation }
    }

    async fn push(&self, new: &[New], once: bool, end: Option<End>, is_old: bool, finished: &[(usize, u64)]) -> String {
        // Who fans out an event stores nothing for a retired handler.
        let known = new.iter().filter(|new| !self.retired.iter().any(|retired| *retired == HANDLERS[new.handler]));
        let until = match end {
            None => None,
            Some(End::Past) => Some(self.began),
            Some(End::Future) => Some(self.now().await.after(LONG)),
        };
        let push = Push {
            generation: self.generation(is_old),
            once,
            until,
            deliveries: known.map(delivery).collect(),
            finished: finished.iter().map(|(handler, event)| id(*handler, *event)).collect(),
        };
        answered(self.store().queue.push(push).await)
    }

    async fn exchange(&mut self, settle: &[(usize, Way)], claim: Option<&Asked>) -> String {
        let mut settlements: Vec<Settlement> = Vec::new();
        for (back, way) in settle {
            let Some((_, lease)) = nth_last(&self.leases, *back) else { continue };
            // No worker settles one delivery twice in a call. And of two that one call gives back to a handler it is not said which is due
            // first.
            let is_back = |outcome: &Outcome| matches!(outcome, Outcome::Retry { .. } | Outcome::Released);
            let new = Settlement { lease: *lease, outcome: outcome(*way) };
            let meets = |settled: &Settlement| {
                settled.lease.delivery == lease.delivery
                    || is_back(&settled.outcome) && is_back(&new.outcome) && handler_of(settled) == handler_of(&new)
            };
            if !settlements.iter().any(meets) {
                settlements.push(new);
            }
        }
        let asks = claim.is_some();
        let claim_of = claim.map(|asked| Claim {
            queues: self.queues(asked),
            lease: lease_of(asked),
            session: self.sessions[asked.session],
            lapsed: if asked.take { Lapsed::Take } else { Lapsed::Leave },
        });
        let Ok(exchanged) = self.store().queue.exchange(settlements.into(), claim_of).await else {
            return "refused".to_owned();
        };
        let tells_generation = exchanged.generation.map(|told| told == self.generation);
        let claimed = claim.map(|asked| self.claimed(asked, exchanged.claims.deliveries, false)).unwrap_or_default();
        self.next = exchanged.claims.next_due.filter(|_| asks);
        self.settled = exchanged.held.contains(&true);
        format!(
            "held {:?}, claimed [{claimed}], suspects {}, generation {tells_generation:?}",
            exchanged.held, exchanged.claims.suspects
        )
    }

    async fn suspects(&mut self, asked: &Asked, exposed: usize, lived_leases: Option<u32>) -> String {
        let lease = lease_of(asked);
        let suspects = Suspects {
            queues: self.queues(asked),
            lease,
            session: self.sessions[asked.session],
            exposed,
            tried: lived_leases.map(|leases| lease * leases),
        };
        let Ok(suspected) = self.store().queue.suspects(suspects).await else { return "refused".to_owned() };
        let exposed = self.claimed(asked, suspected.exposed, true);
        let tried = self.claimed(asked, suspected.tried.into_iter().collect(), true);
        self.more = suspected.more;
        format!("exposed [{exposed}], tried [{tried}]")
    }

    /// Renews a session, and some of its leases, also such as it has lost. Who lives for a moment is never renewed for long.
    async fn extend(&mut self, session: usize, leases: &[usize]) -> String {
        let lease = match SESSIONS[session] {
            Life::Lives => LONG,
            Life::Dies => SHORT,
            Life::Unknown => return "nothing".to_owned(),
        };
        let own: Vec<_> = self.leases.iter().filter(|(of, _)| *of == session).copied().collect();
        let mut renewed: Vec<Lease> = leases.iter().filter_map(|back| Some(nth_last(&own, *back)?.1)).collect();
        let mut seen = HashSet::new();
        renewed.retain(|lease| seen.insert(*lease));
        if lease == SHORT {
            self.may_have_lapsed.extend(renewed.iter().map(|lease| lease.delivery));
        }
        answered(self.store().queue.extend(self.sessions[session], &renewed, lease).await)
    }

    async fn in_steps(&self, letters: &Of, before: bool, requeue: bool) -> String {
        let letters = match letters {
            Of::One(handler, event) => Letters::One(id(*handler, *event)),
            Of::Handler(handler) => Letters::Of(HANDLERS[*handler].to_owned()),
        };
        let up_to = if before { self.began } else { StoreTime::MAX };
        let mut count = 0;
        loop {
            let admin = self.admin();
            let step =
                if requeue { admin.requeue(letters.clone(), up_to) } else { admin.discard(letters.clone(), up_to) };
            let step = step.await.expect("it does a step");
            count += step.count;
            if !step.more {
                return format!("{count} letters");
            }
        }
    }

    /// What is claimed of each queue. It is not said which of several a claim comes to first where some have to wait as suspects, so that
    /// there is room for all then.
    fn queues(&self, asked: &Asked) -> Vec<ClaimQueue> {
        let is_open = asked.take && !self.may_have_lapsed.is_empty();
        let room = |wanted| if is_open { 1_000 } else { wanted };
        let queue = |queue: &usize| {
            let (name, handlers) = QUEUES[*queue];
            let mut handlers: Vec<_> = handlers
                .iter()
                .map(|handler| {
                    let (version, priority, wanted) = asked.handlers[*handler];
                    let priority = [Priority::Low, Priority::Normal, Priority::High][usize::from(priority)];
                    ClaimHandler { name: HANDLERS[*handler].into(), version, priority, wanted: room(wanted) }
                })
                .collect();
            handlers.sort_by_key(|handler| std::cmp::Reverse(handler.priority));
            ClaimQueue { name: name.into(), handlers, wanted: room(asked.wanted) }
        };
        asked.queues.iter().map(queue).collect()
    }

    /// Takes note of what was claimed.
    fn claimed(&mut self, asked: &Asked, mut claimed: Vec<Claimed>, is_of_suspects: bool) -> String {
        claimed.sort_by(|a, b| a.handler.cmp(&b.handler));
        // Leases that began in one call end at the same time: it is not said which of them is due first, nor which of several suspects
        // is the oldest.
        if is_of_suspects || asked.take && !self.may_have_lapsed.is_empty() {
            claimed.sort_by_key(|claimed| claimed.lease.delivery);
        }
        for claimed in &claimed {
            self.leases.push((asked.session, claimed.lease));
            if lease_of(asked) == SHORT {
                self.may_have_lapsed.insert(claimed.lease.delivery);
            } else {
                self.may_have_lapsed.remove(&claimed.lease.delivery);
            }
        }
        let told = claimed.into_iter().map(|claimed| {
            let Claimed {
                lease,
                event_id,
                handler,
                origin,
                version,
                emitted_unix_ms: _,
                failed,
                blame,
                policy,
                payload,
            } = claimed;
            let payload = String::from_utf8_lossy(&payload).into_owned();
            assert_eq!((origin, policy), (Origin::of(event_id), Policy::DEFAULT));
            assert_eq!(lease.delivery, DeliveryId::derive(event_id, &handler));
            let ordered = if lease.ordered { ", ordered" } else { "" };
            format!(
                "{payload}, version {version}{ordered}, failed {failed}, {} deaths, {} charges",
                blame.deaths, blame.charges
            )
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// Whether a worker that was told when to look again comes in time for what the `model` knows of. It may come sooner, as far as the
    /// store knows, or for suspects of versions that it does not read; but where nothing is due, at once only after a settlement, or it would ask without end.
    pub fn looks_again_in_time(&self, model: &Self) -> bool {
        let how_late = |next: Option<Duration>| match next {
            None => 3,
            Some(next) if next > 2 * LONG => 2,
            Some(next) if next > LONG / 2 => 1,
            Some(_) => 0,
        };
        let at_once = |side: &Self| side.next.is_some_and(|next| next.is_zero());
        (self.more || !model.more)
            && how_late(self.next) <= how_late(model.next)
            && (!at_once(self) || at_once(model) || self.settled)
    }

    /// What can be seen of it, between two calls.
    pub async fn look(&mut self) -> String {
        let stats = self.admin().stats().await.expect("it tells its counts");
        let counts = stats.handlers.iter().map(|count| {
            let is_due = count.due_for.is_some();
            format!(
                "{} of {} in {}: waiting {}, running {}, done {}, retried {}, dead {}, due {is_due}",
                count.handler,
                count.event,
                count.queue,
                count.waiting,
                count.running,
                count.done,
                count.retried,
                count.dead
            )
        });
        let counts: Vec<_> = counts.collect();
        let letters = self.admin().dead_letters(None, 100).await.expect("it tells its dead letters");
        let letters: Vec<_> = letters
            .iter()
            .map(|letter| {
                let payload = String::from_utf8_lossy(&letter.payload).into_owned();
                assert_eq!(letter.id, DeliveryId::derive(letter.event_id, &letter.handler));
                format!("{payload} for {}, failed {}: {}", letter.event, letter.attempts, letter.error)
            })
            .collect();
        let mut catalogue = self.store().catalogue.read().await.expect("it tells its catalogue");
        let has_moved = catalogue.generation != self.generation;
        if has_moved {
            self.old_generation = std::mem::replace(&mut self.generation, catalogue.generation);
        }
        catalogue.handlers.sort_by(|a, b| a.handler.cmp(&b.handler));
        let handlers: Vec<_> = catalogue
            .handlers
            .iter()
            .map(|entry| format!("{} {:?} {}", entry.handler, entry.aliases, entry.queue))
            .collect();
        self.retired = catalogue.retired;
        self.retired.sort();
        format!(
            "  counts {counts:#?}\n  paused {:?}\n  letters {letters:#?}\n  handlers {handlers:?}, retired {:?}, moved {has_moved}",
            stats.paused, self.retired
        )
    }
}

/// The how many-th from the last, round and round.
fn nth_last<T>(list: &[T], back: usize) -> Option<&T> {
    list.iter().rev().nth(back % list.len().max(1))
}

fn answered<T: std::fmt::Debug, E>(answer: Result<T, E>) -> String {
    answer.map_or_else(|_| "refused".to_owned(), |answer| format!("{answer:?}"))
}

/// A session that dies has leases that end with it.
fn lease_of(asked: &Asked) -> Duration {
    if asked.short || SESSIONS[asked.session] == Life::Dies { SHORT } else { LONG }
}

fn event(event: u64) -> EventId {
    EventId::from_key(&format!("event {event}"))
}

fn id(handler: usize, event: u64) -> DeliveryId {
    DeliveryId::derive(self::event(event), HANDLERS[handler])
}

fn delivery(new: &New) -> NewDelivery {
    let event_id = event(new.event);
    let name = HANDLERS[new.handler];
    let unique = (new.handler == 1).then(|| UniqueKey {
        key: Key::derive(name, &format!("{}", new.event % 2)),
        within: if new.stands_long { FAR } else { SHORT },
    });
    let order = (new.handler == 2).then(|| Key::derive(name, &format!("{}", new.event % 3)));
    NewDelivery {
        id: id(new.handler, new.event),
        event_id,
        handler: name.into(),
        origin: Origin::of(event_id),
        version: new.version,
        emitted_unix_ms: None,
        delay: if new.later { FAR } else { Duration::ZERO },
        policy: Policy::DEFAULT,
        unique,
        order,
        payload: format!("{name} {}", new.event).into_bytes().into(),
    }
}

/// The place of the handler of a settled delivery.
fn handler_of(settled: &Settlement) -> Option<usize> {
    (0..HANDLERS.len()).find(|handler| (0..EVENTS).any(|event| id(*handler, event) == settled.lease.delivery))
}

fn outcome(way: Way) -> Outcome {
    let error = || "no such address".to_owned();
    match way {
        Way::Completed => Outcome::Completed,
        Way::RetryNow => Outcome::Retry { delay: Duration::ZERO, error: error() },
        Way::RetryLater => Outcome::Retry { delay: FAR, error: error() },
        Way::Dead => Outcome::Dead { failed: 3, error: error() },
        Way::Released => Outcome::Released,
    }
}

/// A handler as it is recorded: with nothing, in another queue, with an earlier name that is another handler's.
fn entry(handler: usize, variant: u64) -> CatalogueEntry {
    CatalogueEntry {
        handler: HANDLERS[handler].into(),
        aliases: if variant == 2 { vec![HANDLERS[(handler + 1) % 3].to_owned()] } else { Vec::new() },
        event: "OrderPlaced".to_owned(),
        event_aliases: Vec::new(),
        route: Route::Background,
        queue: if variant == 1 { "elsewhere".to_owned() } else { "default".to_owned() },
        policy: Policy::DEFAULT,
        unique: None,
        ordered_by: None,
    }
}
