//! The contract suite, for stores of others: what the docs of [`store`](crate::store) promise, as tests that every store
//! passes. Needs the feature `testing`.
//!
//! A promise is a function over a [`Site`], a place where a store can be opened as often as there are processes. A store of
//! your own writes its site and names it once; `cargo test` then runs a test for each promise, named by it:
//!
//! ```
//! use std::sync::Arc;
//! use evented::{store::{Store, open_queue}, testing::Site};
//!
//! // A folder that is removed at its end.
//! struct Queue(std::path::PathBuf);
//!
//! impl Site for Queue {
//!     const NAME: &'static str = "SQLite";
//!
//!     async fn new() -> Option<Self> {
//!         let folder = std::env::temp_dir().join(evented::EventId::new().to_string());
//!         std::fs::create_dir(&folder).expect("a temporary folder can be made");
//!         Some(Self(folder))
//!     }
//!
//!     async fn open(&self) -> Store {
//!         let url = format!("sqlite:{}", self.0.join("queue.db").display());
//!         open_queue(&url).await.expect("the store opens")
//!     }
//! }
//!
//! impl Drop for Queue {
//!     fn drop(&mut self) {
//!         let _left = std::fs::remove_dir_all(&self.0);
//!     }
//! }
//!
//! evented::contract_suite! { queue_in_sqlite: Queue }
//!
//! // The promises are data: these are the tests that show one guarantee.
//! use evented::testing::{Guarantee, queue_promises};
//! let shown = queue_promises::<Queue>().into_iter().filter(|promise| promise.guarantee == Guarantee::Retry);
//! for promise in shown {
//!     assert!(promise.test(), "the site is there");
//! }
//! ```
//!
//! The [`Model`] is the same in code: a queue store in memory, in which each rule stands in one place. A store of your own can be
//! compared with it, and a test of yours may run on it, with a [`Clock`] that it moves.
//!
//! An outbox store implements [`OutboxSite`] for its site too, and adds
//! [`outbox_contract_suite!`](crate::outbox_contract_suite).
//!
//! A promise whose site cannot be made is skipped, and says so; with `EVENTED_REQUIRE_SERVERS=1` in the environment it fails.
//!
//! No promise is shown by sleeping and hoping: a check waits for what must happen, for 20 seconds at most, and what must not
//! happen is shown by something later that does.

mod kit;
mod site;
mod promise;
mod push;
mod claim;
mod exchange;
mod extend;
mod suspects;
mod settle;
mod order;
mod unique;
mod wait;
mod catalogue;
mod admin;
mod pause;
mod sweep;
mod outbox;
mod taken;
mod transact;
mod inbox;
mod suite;
mod table;
mod clock;
mod model;

#[doc(hidden)]
pub use self::suite::hold;
pub use self::{
    clock::Clock,
    model::Model,
    promise::{Check, Guarantee, Promise},
    site::{End, OutboxSite, Site},
    suite::{outbox_promises, queue_promises},
    table::{Column, table},
};
