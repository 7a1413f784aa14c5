//! All that the model keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{DeliveryId, Key, LeaseToken, SessionId},
    store::{Blame, CatalogueEntry, Lease, NewDelivery, StoreTime, TRIED_FROM, new_generation},
};

/// All that the model keeps. Each method of the boundary is a function on it and on what the clock says.
pub struct Kept {
    pub generation: u64,
    /// By their ids; the retired ones, too.
    pub handlers: BTreeMap<String, Handler>,
    /// What is not settled for good.
    pub deliveries: BTreeMap<DeliveryId, Delivery>,
    /// How many deliveries were stored so far.
    pub stored: i64,
    /// Dead letters, the oldest first.
    pub letters: Vec<Letter>,
    /// Until when it is remembered that a delivery was pushed once.
    pub once: BTreeMap<DeliveryId, StoreTime>,
    /// Who stands for a unique key.
    pub unique: BTreeMap<Key, Standing>,
    /// When each session has died, unless it is renewed before.
    pub sessions: BTreeMap<SessionId, StoreTime>,
    pub paused: BTreeSet<String>,
}

/// A handler, and what became of its deliveries.
pub struct Handler {
    pub entry: CatalogueEntry,
    pub retired_at: Option<StoreTime>,
    pub done: u64,
    pub retried: u64,
    pub dead: u64,
}

/// A delivery that waits or runs.
pub struct Delivery {
    /// As it was pushed.
    pub pushed: NewDelivery,
    /// The how many-th that was stored: what has a lower number was stored before it.
    pub number: i64,
    /// From when it may be claimed, while nobody holds it.
    pub due: StoreTime,
    pub held: Option<Held>,
    pub failed: u32,
    pub blame: Blame,
    /// The session that died with it last; `None` where that has come back.
    pub died_with: Option<SessionId>,
    /// It was tried singly when that session died: this will be a charge.
    pub may_be_charged: bool,
}

/// The lease on a delivery.
pub struct Held {
    pub token: LeaseToken,
    pub session: SessionId,
    pub until: StoreTime,
}

/// A dead letter.
pub struct Letter {
    pub pushed: NewDelivery,
    pub failed: u32,
    pub error: String,
    pub died_at: StoreTime,
}

/// The delivery that stands for others of its unique key, until then.
pub struct Standing {
    pub delivery: DeliveryId,
    pub until: StoreTime,
}

impl Kept {
    pub fn new() -> Self {
        Self {
            generation: new_generation(),
            handlers: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            stored: 0,
            letters: Vec::new(),
            once: BTreeMap::new(),
            unique: BTreeMap::new(),
            sessions: BTreeMap::new(),
            paused: BTreeSet::new(),
        }
    }

    /// Stores a delivery that is due then, behind all others.
    pub fn store(&mut self, pushed: NewDelivery, due: StoreTime) {
        self.stored += 1;
        let delivery = Delivery {
            number: self.stored,
            due,
            held: None,
            failed: 0,
            blame: Blame::default(),
            died_with: None,
            may_be_charged: false,
            pushed,
        };
        self.deliveries.insert(delivery.pushed.id, delivery);
    }

    /// A delivery is here no more. The next of its order key is the first of it now.
    pub fn end(&mut self, delivery: DeliveryId) -> NewDelivery {
        self.deliveries.remove(&delivery).expect("it is held, and so it is stored").pushed
    }

    /// The handler of a delivery.
    pub fn handler(&mut self, id: &str) -> &mut Handler {
        self.handlers.get_mut(id).expect("only deliveries of recorded handlers are stored, and no handler is forgotten")
    }

    /// The delivery of a lease that is still held: whose token is that of the last claim. It may have ended meanwhile: until
    /// another claim takes the delivery, nothing is lost.
    pub fn held(&mut self, lease: &Lease) -> Option<&mut Delivery> {
        let delivery = self.deliveries.get_mut(&lease.delivery)?;
        delivery.held.as_ref().is_some_and(|held| held.token == lease.token).then_some(delivery)
    }

    /// The number of the first of each order key: the others wait for their turn.
    pub fn heads(&self) -> BTreeMap<Key, i64> {
        let mut heads = BTreeMap::new();
        for delivery in self.deliveries.values() {
            if let Some(key) = delivery.pushed.order {
                let head = heads.entry(key).or_insert(delivery.number);
                *head = delivery.number.min(*head);
            }
        }
        heads
    }
}

impl Delivery {
    /// Whether a session died while it had it, and no attempt was settled since.
    pub fn is_suspect(&self) -> bool {
        self.blame.deaths > 0
    }

    /// Whether it waits apart until it is claimed as a suspect.
    pub fn waits_apart(&self) -> bool {
        self.is_suspect() && self.held.is_none()
    }

    /// Whether, of a suspect, it is tried singly, and not exposed.
    pub fn is_for_trial(&self) -> bool {
        self.blame.deaths >= TRIED_FROM
    }

    /// Whether it was leased, and the lease has ended.
    pub fn has_lapsed(&self, now: StoreTime) -> bool {
        self.held.as_ref().is_some_and(|held| held.until <= now)
    }

    /// When a claim may take it: at its time, or at the end of its lease. `None`: it waits for its turn, or apart as a suspect.
    pub fn due_at(&self, heads: &BTreeMap<Key, i64>) -> Option<StoreTime> {
        let waits_for_its_turn = self.pushed.order.is_some_and(|key| heads[&key] != self.number);
        match &self.held {
            Some(held) => Some(held.until),
            None if self.is_suspect() || waits_for_its_turn => None,
            None => Some(self.due),
        }
    }
}
