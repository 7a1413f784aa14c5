//! Deliveries are claimed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    id::{DeliveryId, LeaseToken, SessionId},
    store::{Claim, ClaimHandler, Claimed, Claims, Exchanged, Lapsed, Lease, Settlement, StoreTime, pick},
};

use super::kept::{Delivery, Held, Kept};

impl Kept {
    /// What is settled here is left for another claim.
    pub fn exchange(&mut self, now: StoreTime, settlements: &[Settlement], claim: Option<&Claim>) -> Exchanged {
        let held: Vec<bool> = settlements.iter().map(|settlement| self.settle(now, settlement)).collect();
        let Some(claim) = claim else { return Exchanged { held, ..Exchanged::default() } };
        let settled = settlements.iter().zip(&held).filter(|(_, held)| **held);
        let settled = settled.map(|(settlement, _)| settlement.lease.delivery).collect();
        Exchanged { held, claims: self.claim(now, claim, &settled), generation: Some(self.generation) }
    }

    fn claim(&mut self, now: StoreTime, claim: &Claim, settled: &BTreeSet<DeliveryId>) -> Claims {
        let mut claims = Claims::default();
        let mut next: Option<StoreTime> = None;
        for queue in &claim.queues {
            if self.paused.contains(&*queue.name) {
                continue;
            }
            let later = queue.handlers.iter().filter_map(|handler| self.next_due(now, handler));
            next = next.into_iter().chain(later).min();
            let mut due: Vec<Vec<(DeliveryId, usize)>> = Vec::new();
            for (place, handler) in queue.handlers.iter().enumerate() {
                let found = self.due(now, handler, claim.lapsed).into_iter();
                let (left, due_now): (Vec<_>, Vec<_>) = found.partition(|delivery| settled.contains(delivery));
                if !left.is_empty() {
                    next = Some(now);
                }
                due.push(due_now.into_iter().map(|delivery| (delivery, place)).collect());
            }
            let (picked, more) = pick(queue, &due);
            let lapsed = picked.iter().map(|(delivery, _)| *delivery);
            let lapsed: Vec<_> = lapsed.filter(|delivery| self.deliveries[delivery].has_lapsed(now)).collect();
            let suspects = {
                let count = lapsed.len();
                let due = self.come_to_lapsed(now, lapsed);
                due.len() < count
            };
            if more || suspects {
                next = Some(now);
            }
            claims.suspects |= suspects;
            for (delivery, place) in picked {
                if !self.deliveries[&delivery].waits_apart() {
                    let name = &queue.handlers[place].name;
                    claims.deliveries.push(self.lease(now, delivery, claim.lease, claim.session, name));
                }
            }
        }
        claims.next_due = next.map(|next| Duration::from_millis(next.0.saturating_sub(now.0).cast_unsigned()));
        claims
    }

    /// What is due of a handler, the oldest first.
    fn due(&self, now: StoreTime, handler: &ClaimHandler, lapsed: Lapsed) -> Vec<DeliveryId> {
        let takable = self.readable(handler).filter(|(_, delivery)| lapsed == Lapsed::Take || delivery.held.is_none());
        let mut due: Vec<_> = takable
            .filter(|(due_at, _)| *due_at <= now)
            .map(|(due_at, delivery)| (due_at, delivery.number, delivery.pushed.id))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(.., delivery)| delivery).collect()
    }

    /// When something of a handler will be due that is not yet.
    fn next_due(&self, now: StoreTime, handler: &ClaimHandler) -> Option<StoreTime> {
        self.readable(handler).map(|(due_at, _)| due_at).filter(|due_at| *due_at > now).min()
    }

    /// What is or will be due of a handler, of versions that it reads, each with its time.
    fn readable(&self, handler: &ClaimHandler) -> impl Iterator<Item = (StoreTime, &Delivery)> {
        let heads = self.heads();
        let of_handler = self.deliveries.values().filter(|delivery| delivery.pushed.handler == handler.name);
        let readable = of_handler.filter(|delivery| delivery.pushed.version <= handler.version);
        readable.filter_map(move |delivery| Some((delivery.due_at(&heads)?, delivery)))
    }

    /// A delivery is one session's alone from now on. One that was tried when its last session died, and is claimed again, is
    /// charged with that.
    pub fn lease(
        &mut self,
        now: StoreTime,
        delivery: DeliveryId,
        lease: Duration,
        session: SessionId,
        name: &Arc<str>,
    ) -> Claimed {
        let token = LeaseToken::mint();
        let delivery = self.deliveries.get_mut(&delivery).expect("it was found just now");
        delivery.held = Some(Held { token, session, until: now.after(lease) });
        delivery.blame.charges += u32::from(std::mem::take(&mut delivery.may_be_charged));
        let pushed = &delivery.pushed;
        Claimed {
            lease: Lease { delivery: pushed.id, row: delivery.number, token, ordered: pushed.order.is_some() },
            event_id: pushed.event_id,
            handler: Arc::clone(name),
            origin: pushed.origin.clone(),
            version: pushed.version,
            emitted_unix_ms: pushed.emitted_unix_ms.unwrap_or(now.0),
            failed: delivery.failed,
            blame: delivery.blame,
            policy: pushed.policy,
            payload: pushed.payload.clone(),
        }
    }
}
