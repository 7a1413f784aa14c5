//! What a person looks at and decides.

use std::time::{Duration, UNIX_EPOCH};

use crate::store::{
    DeadLetter, Letters, NewDelivery, ONCE_COUNT, ONCE_FINISHED, Retention, Stats, Step, StoreTime, StoredCount, Swept,
};

use super::kept::{Handler, Kept, Letter};

impl Kept {
    /// What is leased runs; all else waits, also what was leased and whose lease has ended.
    pub fn stats(&self, now: StoreTime) -> Stats {
        let heads = self.heads();
        let count = |(id, Handler { entry, done, retried, dead, .. }): (&String, &Handler)| {
            let stored = || self.deliveries.values().filter(|delivery| *delivery.pushed.handler == **id);
            let runs = stored().filter(|delivery| delivery.held.is_some() && !delivery.has_lapsed(now)).count();
            let due = stored().filter_map(|delivery| delivery.due_at(&heads)).filter(|due_at| *due_at <= now);
            StoredCount {
                handler: id.clone(),
                event: entry.event.clone(),
                route: entry.route,
                queue: entry.queue.clone(),
                waiting: (stored().count() - runs) as u64,
                running: runs as u64,
                done: *done,
                retried: *retried,
                dead: *dead,
                due_for: due.min().map(|due_at| Duration::from_millis((now.0 - due_at.0).cast_unsigned())),
            }
        };
        Stats { handlers: self.handlers.iter().map(count).collect(), paused: self.paused.iter().cloned().collect() }
    }

    pub fn pause(&mut self, queue: String, paused: bool) {
        if paused {
            self.paused.insert(queue);
        } else {
            self.paused.remove(&queue);
        }
    }

    /// The newest first.
    pub fn dead_letters(&self, handler: Option<&str>, limit: u32) -> Vec<DeadLetter> {
        let newest = self.letters.iter().rev();
        let of_handler = newest.filter(|letter| handler.is_none_or(|handler| *letter.pushed.handler == *handler));
        let tell = |Letter { pushed, failed, error, died_at }: &Letter| DeadLetter {
            id: pushed.id,
            event_id: pushed.event_id,
            handler: pushed.handler.to_string(),
            event: self.handlers[&*pushed.handler].entry.event.clone(),
            attempts: *failed,
            error: error.clone(),
            died_at: UNIX_EPOCH + Duration::from_millis(died_at.0.cast_unsigned()),
            payload: pushed.payload.clone(),
        };
        of_handler.take(limit as usize).map(tell).collect()
    }

    /// Dead letters become deliveries again, as they were pushed, due at once and behind all others. Where a delivery of the same
    /// id is there, it stands for the letter.
    pub fn requeue(&mut self, now: StoreTime, letters: &Letters, up_to: StoreTime) -> Step {
        let taken = self.take_letters(letters, up_to);
        let count = taken.len() as u64;
        for Letter { pushed, .. } in taken {
            if !self.deliveries.contains_key(&pushed.id) {
                self.store(NewDelivery { delay: Duration::ZERO, ..pushed }, now);
            }
        }
        Step { count, more: false }
    }

    pub fn discard(&mut self, letters: &Letters, up_to: StoreTime) -> Step {
        Step { count: self.take_letters(letters, up_to).len() as u64, more: false }
    }

    /// Those that are meant and died then or before, the oldest first. What dies after a person has looked stays.
    fn take_letters(&mut self, letters: &Letters, up_to: StoreTime) -> Vec<Letter> {
        let is_meant = |letter: &Letter| match letters {
            Letters::One(delivery) => letter.pushed.id == *delivery,
            Letters::Of(handler) => *letter.pushed.handler == **handler,
        };
        let all = std::mem::take(&mut self.letters).into_iter();
        let (taken, left) = all.partition(|letter| is_meant(letter) && letter.died_at <= up_to);
        self.letters = left;
        taken
    }

    /// What is kept no longer is deleted.
    pub fn sweep(&mut self, now: StoreTime, retention: Retention) -> Swept {
        let before = self.letters.len();
        self.letters.retain(|letter| letter.died_at.after(retention.age) >= now);
        let most = usize::try_from(retention.count).unwrap_or(usize::MAX);
        self.letters.drain(..self.letters.len().saturating_sub(most));
        self.once.retain(|_, until| now < *until);
        self.unique.retain(|_, standing| now < standing.until);
        let forgotten_early = self.forget_beyond_count(now);
        Swept { dead_letters: (before - self.letters.len()) as u64, forgotten_early, more: false }
    }

    /// Of too many deliveries that were pushed once the oldest are forgotten. Not those that are finished: they are forgotten soon by
    /// themselves, and until then they are what a late push meets.
    fn forget_beyond_count(&mut self, now: StoreTime) -> u64 {
        let most = usize::try_from(ONCE_COUNT).unwrap_or(usize::MAX);
        let mut oldest: Vec<_> = self.once.iter().map(|(delivery, until)| (*until, *delivery)).collect();
        oldest.sort_unstable();
        oldest.truncate(oldest.len().saturating_sub(most));
        oldest.retain(|(until, _)| *until > now.after(ONCE_FINISHED));
        for (_, delivery) in &oldest {
            self.once.remove(delivery);
        }
        oldest.len() as u64
    }
}
