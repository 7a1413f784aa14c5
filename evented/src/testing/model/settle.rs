//! Deliveries are settled.

use crate::store::{Blame, Outcome, Settlement, StoreTime};

use super::kept::{Kept, Letter};

impl Kept {
    /// Answers whether the lease was still held. A late settlement changes nothing.
    pub fn settle(&mut self, now: StoreTime, Settlement { lease, outcome }: &Settlement) -> bool {
        let Some(delivery) = self.held(lease) else { return false };
        match outcome {
            Outcome::Completed => {
                let done = self.end(lease.delivery);
                self.handler(&done.handler).done += 1;
            }
            // An attempt that came to an end is no suspect of anything.
            Outcome::Retry { delay, error: _ } => {
                delivery.held = None;
                delivery.due = now.after(*delay);
                delivery.failed += 1;
                delivery.blame = Blame::default();
                delivery.died_with = None;
                delivery.may_be_charged = false;
                let handler = delivery.pushed.handler.clone();
                self.handler(&handler).retried += 1;
            }
            Outcome::Dead { failed, error } => {
                let pushed = self.end(lease.delivery);
                self.handler(&pushed.handler).dead += 1;
                self.letters.push(Letter { pushed, failed: *failed, error: error.clone(), died_at: now });
            }
            // It costs no attempt. A suspect waits apart, as the suspect that it was.
            Outcome::Released => {
                delivery.held = None;
                delivery.due = now;
            }
        }
        true
    }
}
