//! Rows of events that nobody knows: since when this relay has met each of them.
//!
//! They are kept for a while from when they were first due. A row does not tell that any more: its delay is over, and each look
//! puts it off. So the relay counts from its own first look, which comes later, and a restart counts anew: it may keep a row
//! for too long, never for too short.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    id::EventId,
    store::OutboxRow,
    time::{self, Instant},
};

/// How many are remembered; those beyond are kept until there is room.
const REMEMBERED: usize = 100_000;
/// How long one is remembered that does not come again: another relay may have it, or it is known by now.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// How often it is looked for those.
const FORGETS_EACH: Duration = Duration::from_hours(1);

pub(super) struct Unknown(Mutex<Memory>);

struct Memory {
    /// By number and event: a number may be given again.
    met: HashMap<(i64, EventId), Met>,
    forgot: Instant,
}

struct Met {
    first: Instant,
    last: Instant,
}

impl Unknown {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Memory { met: HashMap::new(), forgot: time::now() }))
    }

    /// Takes note of a look at such a row; answers how long ago the first one was.
    pub(super) fn meet(&self, row: &OutboxRow) -> Duration {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.meet((row.row, row.event_id), time::now())
    }
}

impl Memory {
    fn meet(&mut self, row: (i64, EventId), now: Instant) -> Duration {
        if now.saturating_duration_since(self.forgot) > FORGETS_EACH {
            self.met.retain(|_, met| now.saturating_duration_since(met.last) <= FORGOTTEN);
            self.forgot = now;
        }
        if self.met.len() >= REMEMBERED && !self.met.contains_key(&row) {
            return Duration::ZERO;
        }
        let met = self.met.entry(row).or_insert(Met { first: now, last: now });
        met.last = now;
        now.saturating_duration_since(met.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process of a test lives for days.
    #[test]
    fn a_row_counts_from_the_first_look_at_it_as_long_as_it_comes_again() {
        let began = time::now();
        let mut memory = Memory { met: HashMap::new(), forgot: began };
        let (row, other) = ((1, EventId::from_key("a row")), (1, EventId::from_key("another with its number")));
        let at = |hours| began + Duration::from_hours(hours);
        assert_eq!(memory.meet(row, at(0)), Duration::ZERO);
        for hours in (12..=168).step_by(12) {
            assert_eq!(memory.meet(row, at(hours)), Duration::from_hours(hours));
        }
        assert_eq!(memory.meet(other, at(168)), Duration::ZERO);
        assert_eq!(memory.meet(row, at(180)), Duration::from_hours(180));
        assert_eq!(memory.meet(row, at(168 + 25)), Duration::from_hours(168 + 25));
        assert_eq!(memory.met.len(), 1, "what did not come for a day is forgotten");
        assert_eq!(memory.meet(other, at(168 + 25)), Duration::ZERO);
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let began = time::now();
        let mut memory = Memory { met: HashMap::new(), forgot: began };
        let id = EventId::from_key("a row");
        for row in 0..i64::try_from(REMEMBERED).unwrap() + 10 {
            assert_eq!(memory.meet((row, id), began), Duration::ZERO);
        }
        assert_eq!(memory.met.len(), REMEMBERED);
        let later = began + Duration::from_hours(1);
        assert_eq!(memory.meet((0, id), later), Duration::from_hours(1));
        assert_eq!(memory.meet((i64::MAX, id), later), Duration::ZERO);
    }
}
