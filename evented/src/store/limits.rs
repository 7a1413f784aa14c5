//! What a store can do at most, and which terms of a delivery it keeps.

use std::{fmt, time::Duration};

/// What a store can do at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of payloads in one push: a larger one is refused before it is sent.
    pub push_bytes: usize,
    /// Deliveries in one push.
    pub push_deliveries: usize,
    /// What a transaction that writes keeps others from.
    pub locks: Locks,
}

/// What a transaction that writes keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// The rows that it writes.
    Rows,
    /// All of the database: whoever else writes waits until it ends, also who renews leases.
    Database,
}

impl Locks {
    /// The longest that a handler's transaction may last beside leases of this length, whose renewal may wait behind it.
    pub(crate) fn tx_max(self, lease: Duration) -> Duration {
        match self {
            Self::Rows => Duration::MAX,
            Self::Database => lease / 3,
        }
    }
}

/// What a handler may ask for its deliveries that not every store needs to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Term {
    /// `priority = ".."`: those of higher priority are claimed first.
    Priority,
    /// `unique(..)`: of several with one key, one is stored.
    Unique,
    /// `ordered_by = ".."`: those of one key run one after the other.
    Order,
}

impl Term {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Priority, Self::Unique, Self::Order];
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Priority => "priority",
            Self::Unique => "unique",
            Self::Order => "ordered_by",
        })
    }
}
