//! The settlement: what has ended gathers for the next exchange.
//!
//! A store that refuses a batch for good refuses one of it, most often: it is halved until the one is found, which stands aside
//! and is tried again later, and what ended beside it is settled.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{StoreError, in_one_line},
    store::{Outcome, Settlement},
    time::{self, Instant},
};

use super::{capacity::Found, in_flight::Ended};

/// How long one waits that is refused by itself.
const ASIDE: Duration = Duration::from_secs(30);
/// After so many in a row that are refused by themselves, it is not their fault.
const ASIDE_MAX: u32 = 3;

/// What has ended and is not settled.
#[derive(Default)]
pub(super) struct Settling {
    /// What the next exchange settles.
    pub batch: Vec<Ended>,
    /// What waits for the batch before it: other parts of one that was refused.
    parts: Vec<Vec<Ended>>,
    /// What is refused by itself, and until when it waits.
    aside: Vec<(Instant, Ended)>,
    /// How many were put aside since something was settled.
    refused: u32,
}

/// What comes after a refusal.
#[derive(PartialEq, Eq)]
pub(super) enum Then {
    /// The same with less.
    Again,
    /// A while later.
    Wait,
}

impl Settling {
    /// Fills an empty batch from what waits.
    pub(super) fn refill(&mut self) {
        if !self.batch.is_empty() {
            return;
        }
        if let Some(part) = self.parts.pop() {
            self.batch = part;
            return;
        }
        // Alone, since it may be refused again.
        if let Some(at) = self.aside.iter().position(|(until, _)| *until <= time::now()) {
            self.batch.push(self.aside.swap_remove(at).1);
        }
    }

    /// Whether more may join the batch.
    pub(super) fn takes_more(&self, most: usize) -> bool {
        self.batch.len() < most && self.parts.is_empty()
    }

    /// Until when nothing need be tried; `None` where nothing waits for its time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.aside.iter().map(|(until, _)| *until).min()
    }

    /// Takes what stands aside.
    pub(super) fn aside_now(&mut self) -> Vec<Ended> {
        self.aside.drain(..).map(|(_, ended)| ended).collect()
    }

    pub(super) fn settlements(&self) -> Arc<[Settlement]> {
        self.batch.iter().filter_map(Ended::settlement).collect()
    }

    /// The room that the batch gives back.
    pub(super) fn freed(&self) -> impl Iterator<Item = &Found> {
        self.batch.iter().filter_map(|ended| ended.held.found.as_ref())
    }

    /// Takes the batch, which is settled, or has nothing to settle.
    pub(super) fn settled(&mut self) -> Vec<Ended> {
        self.refused = 0;
        std::mem::take(&mut self.batch)
    }

    /// The store refuses the batch for good.
    pub(super) fn refused(&mut self, error: &StoreError) -> Then {
        if self.batch.len() > 1 {
            let half = self.batch.split_off(self.batch.len() / 2);
            self.parts.push(half);
            return Then::Again;
        }
        self.refused = self.refused.saturating_add(1);
        if self.refused > ASIDE_MAX {
            // All are refused: together they take one statement.
            self.batch.extend(self.parts.drain(..).flatten());
            self.batch.extend(self.aside.drain(..).map(|(_, ended)| ended));
            self.refused = 0;
            return Then::Wait;
        }
        if let Some(one) = self.batch.pop() {
            tracing::error!(handler = %one.name, delivery = %one.lease.delivery, error = %in_one_line(error), tried_again_in = ?ASIDE,
                "the end of a delivery cannot be settled; it stays leased, and others go on");
            self.aside.push((time::after(ASIDE), one));
        }
        Then::Again
    }
}

/// Says which settlements came after their lease was lost. What is given back may have lost it before, which was told then.
pub(super) fn note_late(batch: &[Ended], held: &[bool]) {
    let settled = batch.iter().filter(|ended| ended.outcome.is_some());
    for (ended, _) in settled.zip(held).filter(|(_, held)| !**held) {
        if !matches!(ended.outcome, Some(Outcome::Released)) {
            tracing::warn!(handler = %ended.name, delivery = %ended.lease.delivery,
                "a delivery was settled after its lease was lost; the settlement changed nothing");
        }
    }
}
