//! The handlers of all processes.

use crate::store::{CatalogueEntry, CatalogueState, Record, StoreTime, Swap, new_generation};

use super::kept::{Handler, Kept};

impl Kept {
    /// Handlers are recorded if the catalogue is as it was read. Nobody plans again for what was there already.
    pub fn record(&mut self, record: &Record) -> Swap<()> {
        if record.generation != self.generation {
            return Swap::Moved;
        }
        let mut has_changed = false;
        for entry in record.handlers.iter() {
            has_changed |= self.record_one(entry, record.began);
        }
        if has_changed {
            self.generation = new_generation();
        }
        Swap::Done(())
    }

    /// Answers whether that changed anything.
    fn record_one(&mut self, entry: &CatalogueEntry, began: StoreTime) -> bool {
        let Some(known) = self.handlers.get_mut(&*entry.handler) else {
            let new = Handler { entry: entry.clone(), retired_at: None, done: 0, retried: 0, dead: 0 };
            self.handlers.insert(entry.handler.to_string(), new);
            return true;
        };
        // A process that ran when it was retired leaves it retired; one that began after that has it back.
        if known.retired_at.is_some_and(|retired_at| retired_at >= began) {
            return false;
        }
        let is_new = known.entry != *entry || known.retired_at.is_some();
        known.entry = entry.clone();
        known.retired_at = None;
        is_new
    }

    /// A handler is retired with its earlier names, which would otherwise be handlers again. Its deliveries stay, and wait.
    pub fn retire(&mut self, now: StoreTime, handler: &str, generation: u64) -> Swap<bool> {
        if generation != self.generation {
            return Swap::Moved;
        }
        let mut names = vec![handler.to_owned()];
        names.extend(self.handlers.get(handler).into_iter().flat_map(|known| known.entry.aliases.clone()));
        let mut was_there = false;
        for name in names {
            if let Some(known) = self.handlers.get_mut(&name).filter(|known| known.retired_at.is_none()) {
                known.retired_at = Some(now);
                was_there = true;
            }
        }
        if was_there {
            self.generation = new_generation();
        }
        Swap::Done(was_there)
    }

    pub fn catalogue(&self) -> CatalogueState {
        let (retired, known): (Vec<_>, Vec<_>) =
            self.handlers.values().partition(|handler| handler.retired_at.is_some());
        CatalogueState {
            generation: self.generation,
            handlers: known.into_iter().map(|handler| handler.entry.clone()).collect(),
            retired: retired.into_iter().map(|handler| handler.entry.handler.to_string()).collect(),
        }
    }
}
