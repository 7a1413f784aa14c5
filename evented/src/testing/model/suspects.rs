//! Suspects are claimed.

use std::time::Duration;

use crate::{
    id::DeliveryId,
    store::{ClaimHandler, StoreTime, Suspected, Suspects, lived_for_trial},
};

use super::kept::{Delivery, Kept};

impl Kept {
    /// Those that are exposed, as many as asked for; and one that can be tried singly.
    pub fn suspects(&mut self, now: StoreTime, asked: &Suspects) -> Suspected {
        let queues = asked.queues.iter().filter(|queue| !self.paused.contains(&*queue.name));
        let handlers: Vec<&ClaimHandler> = queues.flat_map(|queue| &queue.handlers).collect();
        let waiting = self.waiting(&handlers);
        let (for_trial, exposed): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(delivery, _)| self.deliveries[delivery].is_for_trial());
        let tried = for_trial.into_iter().find(|(delivery, _)| {
            let lived = asked.tried;
            lived.is_some_and(|lived| self.can_be_tried(now, &self.deliveries[delivery], &handlers, asked, lived))
        });
        let mut lease = |(delivery, handler): (DeliveryId, &ClaimHandler)| {
            self.lease(now, delivery, asked.lease, asked.session, &handler.name)
        };
        let exposed = exposed.into_iter().take(asked.exposed).map(&mut lease).collect();
        let tried = tried.map(lease);
        let more = !self.waiting(&handlers).is_empty();
        Suspected { exposed, tried, more }
    }

    /// The suspects of these handlers that wait, of versions that they read, the oldest first.
    fn waiting<'h>(&self, handlers: &[&'h ClaimHandler]) -> Vec<(DeliveryId, &'h ClaimHandler)> {
        let mut waiting: Vec<_> = self.deliveries.values().filter(|delivery| delivery.waits_apart()).collect();
        waiting.sort_unstable_by_key(|delivery| delivery.number);
        let by_handler = waiting.into_iter().filter_map(|Delivery { pushed, .. }| {
            let asked = handlers.iter().find(|handler| handler.name == pushed.handler);
            asked.filter(|handler| pushed.version <= handler.version).map(|handler| (pushed.id, *handler))
        });
        by_handler.collect()
    }

    /// Whether the session may try a delivery that has lived for so long.
    fn can_be_tried(
        &self,
        now: StoreTime,
        tried: &Delivery,
        handlers: &[&ClaimHandler],
        asked: &Suspects,
        lived: Duration,
    ) -> bool {
        // One that is killed each few seconds from outside charges nobody.
        let charges = tried.blame.charges + u32::from(tried.may_be_charged);
        if lived < lived_for_trial(asked.lease, charges) {
            return false;
        }
        let Some(session) = tried.died_with else { return true };
        // Each lease of the session that died with it has ended: what it had is known, then.
        let runs_on = self
            .deliveries
            .values()
            .any(|delivery| delivery.held.as_ref().is_some_and(|held| held.session == session && now < held.until));
        // Nor is another suspect of that session exposed, or waits to be.
        let is_exposed = self.deliveries.values().any(|delivery| {
            delivery.died_with == Some(session)
                && delivery.is_suspect()
                && !delivery.is_for_trial()
                && is_of(delivery, handlers)
        });
        !runs_on && !is_exposed
    }
}

fn is_of(delivery: &Delivery, handlers: &[&ClaimHandler]) -> bool {
    handlers.iter().any(|handler| handler.name == delivery.pushed.handler)
}
