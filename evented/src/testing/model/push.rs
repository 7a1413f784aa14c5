//! Deliveries are stored.

use crate::{
    error::{StoreError, Written},
    id::DeliveryId,
    store::{NewDelivery, ONCE_FINISHED, ONCE_RETENTION, Push, Pushed, StoreTime, UniqueKey},
};

use super::kept::{Kept, Standing};

impl Kept {
    /// All of a push is stored, or nothing.
    pub fn push(&mut self, now: StoreTime, push: &Push) -> Result<Pushed, StoreError> {
        // What a push after its end would repeat may have been forgotten.
        if push.until.is_some_and(|until| now > until) {
            return Ok(Pushed::TooLate);
        }
        // Planned from a catalogue that has changed, it may lack a handler.
        if push.generation != self.generation {
            return Ok(Pushed::CatalogueMoved);
        }
        if let Some(unknown) = push.deliveries.iter().find(|new| !self.handlers.contains_key(&*new.handler)) {
            let text = format!("no process has recorded the handler `{}`", unknown.handler);
            return Err(StoreError::lasting(text, Written::Nothing));
        }
        let mut not_stored = Vec::new();
        for new in push.deliveries.iter() {
            if !self.push_one(now, new, push.once) {
                not_stored.push(new.id);
            }
        }
        for delivery in push.finished.iter() {
            if let Some(until) = self.once.get_mut(delivery) {
                *until = now.after(ONCE_FINISHED).min(*until);
            }
        }
        Ok(Pushed::Stored(not_stored))
    }

    /// Answers whether it was stored.
    fn push_one(&mut self, now: StoreTime, new: &NewDelivery, once: bool) -> bool {
        // Of what is pushed once, the first push has decided, and a repetition stores nothing, also when it is settled by now.
        if once {
            if self.once.get(&new.id).is_some_and(|until| now < *until) {
                return false;
            }
            self.once.insert(new.id, now.after(ONCE_RETENTION));
        }
        // What is there is left as it is.
        if self.deliveries.contains_key(&new.id) {
            return false;
        }
        if new.unique.is_some_and(|unique| !self.takes(now, new.id, unique)) {
            return false;
        }
        let emitted_unix_ms = new.emitted_unix_ms.or(Some(now.0));
        self.store(NewDelivery { emitted_unix_ms, ..new.clone() }, now.after(new.delay));
        true
    }

    /// Whether a delivery may be stored under its unique key: no other stands for that. One that stands for it itself, and is done
    /// and pushed again, is stored; the time of its key counts from when it was stored first.
    fn takes(&mut self, now: StoreTime, delivery: DeliveryId, unique: UniqueKey) -> bool {
        if let Some(standing) = self.unique.get(&unique.key).filter(|standing| now < standing.until) {
            return standing.delivery == delivery;
        }
        self.unique.insert(unique.key, Standing { delivery, until: now.after(unique.within) });
        true
    }
}
