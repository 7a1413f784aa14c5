//! The options of the attributes as items, for rust-analyzer to complete and explain: the attributes write the names that
//! stand in each list of options, and for rust-analyzer alone a macro imports the items of those names.

#![allow(non_upper_case_globals)]

/// Nothing, for the compiler.
#[cfg(not(rust_analyzer))]
#[doc(hidden)]
#[macro_export]
macro_rules! seen_by_rust_analyzer {
    ($($names:tt)*) => {};
}

/// rust-analyzer sets a `cfg` of its own, for every crate.
#[cfg(rust_analyzer)]
#[doc(hidden)]
#[macro_export]
macro_rules! seen_by_rust_analyzer {
    ($($list:ident($($name:ident)*))*; $($event:ty)?) => {
        const _: () = {
            $(type __Event = $event;)?
            $(mod $list {
                use $crate::options::$list::*;
                use self::{$($name as _),*};
            })*
        };
    };
}

/// `#[event(..)]`
pub mod event {
    /// The event is only emitted inside a database transaction, with `emit_in`, and exists if, and only if, that commits.
    pub const transactional: () = ();
    /// `id = "orders.placed"`: the name in stores, logs and the catalogue.
    pub const id: () = ();
    /// `aliases("old.name")`: earlier ids; what was stored under them is still delivered.
    pub const aliases: () = ();
    /// `version = 2`: the version of the payloads that are written, from 1.
    pub const version: () = ();
    /// `from(OrderPlacedV1)`: the types of earlier versions, the oldest first; stored payloads become the event through `From`.
    pub const from: () = ();
}

/// `#[handler(Event, ..)]`
pub mod handler {
    /// The handler runs inside `emit`, before that returns; or, as `in_process(in_transaction)`, inside `emit_in`.
    pub const in_process: () = ();
    /// The handler runs in a worker, after `emit` stored the event; a failure is retried.
    pub const background: () = ();
    /// The handler runs in a worker, after the emitter's transaction committed; a failure is retried.
    pub const outbox: () = ();
    /// `id = "orders.placed"`: the name in stores, logs and the catalogue.
    pub const id: () = ();
    /// `aliases("old.name")`: earlier ids; what was stored under them is still delivered.
    pub const aliases: () = ();
}

/// `in_process(..)`
pub mod in_process {
    /// The handler runs inside `emit_in`, before the commit; its error undoes the emit.
    pub const in_transaction: () = ();
}

/// `background(..)`
pub mod background {
    /// `queue = "mail"`: the queue of the handler's deliveries; `"default"` if absent.
    pub const queue: () = ();
    /// `retries = 8`: how often a failed delivery is run again before it is a dead letter, 0 to 1000; 20 if absent.
    pub const retries: () = ();
    /// `backoff("1s", max = "1h")`: the wait before a retry, which doubles; or `backoff(fixed = "10s")`.
    pub const backoff: () = ();
    /// `timeout = "30s"`: how long one run may take; `"5m"` if absent, `"7d"` at the most.
    pub const timeout: () = ();
    /// `priority = "high"`: which of the queue's deliveries are taken first, `"high"`, `"normal"` or `"low"`; `"normal"` if
    /// absent.
    pub const priority: () = ();
    /// `concurrency = 4`: how many of the handler's deliveries run at once in one process, 1 to 1000; as many as the queue
    /// has slots if absent.
    pub const concurrency: () = ();
    /// `unique(key = "order_id", within = "10m")`: of several events with one value in a field, the handler gets the first.
    pub const unique: () = ();
    /// `ordered_by = "customer_id"`: deliveries of events with one value in this field run one after the other, in the order
    /// in which they were stored.
    pub const ordered_by: () = ();
}

/// `outbox(..)`
pub mod outbox {
    pub use super::background::*;
}

/// `backoff(..)`
pub mod backoff {
    /// `max = "1h"`: the longest wait of all.
    pub const max: () = ();
    /// `fixed = "10s"`: the same wait before each retry.
    pub const fixed: () = ();
}

/// `unique(..)`
pub mod unique {
    /// `key = "order_id"`: the event's field in which the values are compared.
    pub const key: () = ();
    /// `within = "10m"`: how long the first event stands for the others, `"7d"` at the most.
    pub const within: () = ();
}
