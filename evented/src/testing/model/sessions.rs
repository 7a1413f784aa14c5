//! Sessions live, die and come back.

use std::time::Duration;

use crate::{
    id::{DeliveryId, SessionId},
    store::{Lease, StoreTime},
};

use super::kept::Kept;

impl Kept {
    /// A session is renewed, and leases with it. Each lease that is lost stays lost.
    pub fn extend(&mut self, now: StoreTime, session: SessionId, leases: &[Lease], lease: Duration) -> Vec<bool> {
        if self.has_died(now, session) {
            self.take_back(now, session);
        }
        let until = now.after(lease);
        self.sessions.insert(session, until);
        let renew = |lease| {
            let held = self.held(lease).and_then(|delivery| delivery.held.as_mut());
            held.map(|held| held.until = until).is_some()
        };
        leases.iter().map(renew).collect()
    }

    /// A session ends: one that nobody knows has not died.
    pub fn leave(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Whether a session was not renewed for the length of its lease. One that nobody knows has not died.
    pub fn has_died(&self, now: StoreTime, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|until| *until <= now)
    }

    /// A session was dead and is alive: it was no death. What waits apart for no other reason is due.
    fn take_back(&mut self, now: StoreTime, session: SessionId) {
        for delivery in self.deliveries.values_mut().filter(|delivery| delivery.died_with == Some(session)) {
            delivery.died_with = None;
            delivery.may_be_charged = false;
            delivery.blame.deaths -= 1;
            delivery.due = now;
        }
    }

    /// A claim has come to deliveries whose leases have ended. Answers which are due, since nobody died; the others wait apart as
    /// suspects from now on.
    pub fn come_to_lapsed(&mut self, now: StoreTime, lapsed: Vec<DeliveryId>) -> Vec<DeliveryId> {
        let (mut due, mut died) = (Vec::new(), Vec::new());
        for id in lapsed {
            let Some(held) = self.deliveries.get_mut(&id).and_then(|delivery| delivery.held.take()) else { continue };
            if self.has_died(now, held.session) {
                died.push((id, held.session));
            } else if !self.deliveries[&id].is_suspect() {
                due.push(id);
            }
        }
        // Where one dies again, the others that died with it the last time are not what that session died of.
        for (id, _) in &died {
            if let Some(session) = self.deliveries[id].died_with {
                for other in self.deliveries.values_mut().filter(|other| other.died_with == Some(session)) {
                    other.may_be_charged = false;
                }
            }
        }
        for (id, session) in died {
            if let Some(delivery) = self.deliveries.get_mut(&id) {
                delivery.may_be_charged = delivery.is_for_trial();
                delivery.blame.deaths += 1;
                delivery.died_with = Some(session);
            }
        }
        due
    }
}
