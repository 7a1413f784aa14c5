//! Events for ordinary applications: say that something happened, and let handlers do the rest, each by the route that its
//! importance asks for.
//!
//! ```no_run
//! use evented::{prelude::*, sqlx::{SqlitePool, sqlite::{SqliteConnectOptions, SqliteJournalMode}}};
//! use serde::{Deserialize, Serialize};
//!
//! #[event]                                          // a fact that happened
//! #[derive(Serialize, Deserialize)]
//! struct OrderPlaced { order_id: i64, email: String }
//!
//! #[handler(OrderPlaced)]                           // runs inside `emit`, before it returns
//! fn count_order(_event: &OrderPlaced) { /* .. */ }
//!
//! #[handler(OrderPlaced, background(queue = "mail", retries = 8))]   // stored by `emit`, run by a worker, retried
//! async fn send_confirmation(event: OrderPlaced, mailer: State<Mailer>) -> Result<(), MailError> {
//!     mailer.send(&event.email).await
//! }
//!
//! #[event(transactional)]                           // emitted inside a database transaction only
//! #[derive(Serialize, Deserialize)]
//! struct PaymentCaptured { order_id: i64 }
//!
//! #[handler(PaymentCaptured, outbox)]               // exists if, and only if, the transaction commits; booked exactly once
//! async fn book_payment(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), evented::sqlx::Error> {
//!     let booking = evented::sqlx::query("insert into ledger (order_id) values (?)").bind(event.order_id);
//!     booking.execute(&mut **tx).await.map(drop)
//! }
//!
//! # struct Mailer;
//! # impl Mailer { async fn send(&self, _: &str) -> Result<(), MailError> { Ok(()) } }
//! # type MailError = std::io::Error;
//! #[tokio::main]
//! async fn main() -> evented::Result<()> {
//!     let file = SqliteConnectOptions::new().filename("shop.db").create_if_missing(true);
//!     let pool = SqlitePool::connect_with(file.journal_mode(SqliteJournalMode::Wal)).await?;
//!     let app = evented::run().state(Mailer).outbox(pool.clone()).await?;
//!
//!     emit(OrderPlaced { order_id: 1, email: "ada@example.org".into() }).await?;
//!
//!     let mut tx = evented::begin(&pool).await?;
//!     // .. business data, written in the same transaction ..
//!     emit_in(&mut tx, PaymentCaptured { order_id: 1 }).await?;
//!     tx.commit().await?;
//!
//!     app.until_stopped().await
//! }
//! ```
//!
//! # What happens at a crash
//!
//! | route | runs | survives a crash of the process | delivery |
//! |---|---|---|---|
//! | `in_process` (default) | inside `emit` | no | once, at most |
//! | `background` | in a worker, after `emit` stored it | yes, once `emit` returned | at least once |
//! | `outbox` | in a worker, after the emitter's commit | yes, if and only if the transaction committed | at least once; exactly-once effects with `&mut Tx<Db>` |
//!
//! A failed attempt is tried again with exponential backoff, then kept as a dead letter, until [`App::requeue`] makes it a
//! delivery again. A worker that dies is noticed by the end of its leases (30 seconds, see [`Run::lease`]), and its
//! deliveries run again at no cost of attempts, eight at a time beside other work, since one of them may have been what killed
//! the worker. What two workers have died with is tried singly, by a process that has lived for a while; what three have died of
//! so is a dead letter, which tells of these deaths. A worker that was cut off from its store, and lived, suspects nothing.
//!
//! # Changing an event
//!
//! Stored events are JSON. Give a new field `#[serde(default)]`, and keep reading what a running release still writes. A
//! payload that cannot be decoded goes to the dead letters at once; `requeue` it with a release that reads it. A renamed
//! event or handler names its earlier id in `aliases(..)`.
//!
//! # Testing
//!
//! A handler is a function, and a test calls it as one: with [`State::new`], [`Delivery::test`] and [`Tx::of`]. Functions
//! that emit are called inside [`App::scope`], with an instance that has `.install(false)`. [`App::until_idle`] waits until
//! all is delivered.
//!
//! # The outbox
//!
//! Why there is one, what it promises, and what can still go wrong: [`the_outbox`].
//!
//! # More processes
//!
//! A worker of its own, a queue on a server, chosen queues, and what to look at: [`from_one_process_to_many`].
//!
//! # Logs
//!
//! Failures are told through `tracing`: without a subscriber, such as `tracing_subscriber::fmt::init()`, nobody sees them.
//!
//! # Linking
//!
//! Handlers are collected at link time. A crate that stands in `Cargo.toml` but is never named in code is not linked, and
//! its handlers vanish without a word: name the crates with handlers in the binary, with [`link!`]. [`run()`] logs what is
//! there, by crate, and [`assert_catalog!`] lets a test pin it.
//!
//! # Compile errors
//!
//! What is wrong is said at compile time where that can be known, on the word to change, with what to write instead:
//! [`compile_errors`] lists every text with its cause and its cure.
//!
//! # Features
//!
//! `sqlite`, on by default: the embedded queue and the outbox in an application's SQLite file. `postgres`: the queue, and the
//! outbox, in a Postgres database, version 15 or later. `redis`: a queue on a Redis server,
//! [`.queue("redis://..")`](Run::queue). `mysql`: the outbox in an application's database on MySQL 8 or MariaDB 10.6, or later.
//! `sea-orm`: [`emit_in`](emit_in()) takes the transactions of `sea-orm` 2, of each of these databases whose feature is on, too.
//! `testing`: the contract suite that every store passes, for a store of your own, in the module `testing`. [`stores`] shows
//! what it checks.

// What the attributes write names `::evented`, also in this crate's own examples and tests.
extern crate self as evented;

mod time;
mod guard;
mod id;
mod origin;
mod error;
mod flag;
mod retry;
mod terms;
mod exact;
mod key;
mod delivery;
mod context;
mod slot;
mod unread;
mod event;
mod handler;
mod def;
#[doc(hidden)]
pub mod options;
pub mod store;
mod registry;
mod catalog;
mod plan;
mod health;
mod instance;
mod names;
mod dispatch;
mod emit;
mod emit_in;
mod worker;
mod relay;
mod watch;
mod app;
mod start;
mod adopt;
mod run;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::{
    adopt::adopt,
    app::{App, Count, QueueCount, Retired},
    catalog::{Registered, catalog},
    context::{Context, Needs, State},
    delivery::Delivery,
    emit::{Emit, EmitAll, Emitting, emit, emit_all},
    emit_in::{EmitIn, emit_in},
    error::{BoxError, Error, ErrorKind, HandlerResult, Permanent, Result, RetryAfter, StoreError, Written},
    event::{Event, Immediate, Place, Transactional},
    handler::{Background, Blocking, HandlerArg, InProcess, InTransaction, Outbox},
    health::{Health, Problem},
    id::{DeliveryId, EventId, IdError, Key, LeaseToken, SessionId},
    origin::{Origin, Traces},
    retry::{Backoff, Policy},
    run::{Run, run},
    start::Role,
    store::{
        DeadLetter, Route, sqlx,
        tx::{Begun, InTx, Outboxed, Transaction, Tx, begin},
    },
    terms::{Priority, Terms, Unique},
};
pub use evented_macros::{event, handler};

/// What a module with events and handlers needs: `use evented::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "mysql")]
    pub use crate::sqlx::MySql;
    #[cfg(feature = "postgres")]
    pub use crate::sqlx::Postgres;
    #[cfg(feature = "sqlite")]
    pub use crate::sqlx::Sqlite;
    pub use crate::{Delivery, Event, Permanent, RetryAfter, Role, State, Tx, begin, emit, emit_in, event, handler};
}

#[doc = include_str!("compile_errors.md")]
pub mod compile_errors {}

#[doc = include_str!("the_outbox.md")]
pub mod the_outbox {}

#[doc = include_str!("from_one_process_to_many.md")]
pub mod from_one_process_to_many {}

#[doc = include_str!("stores.md")]
pub mod stores {}

/// The outbox for transactions of other libraries: what an implementation of [`InTx`] is made of.
pub mod outbox {
    #[cfg(feature = "sea-orm")]
    pub use crate::store::sea_orm::SeaOrm;
    pub use crate::store::{
        kind::Kind,
        tx::{Ran, Statement, Value},
    };
}

/// Events and handlers without the attributes: what `#[event]` and `#[handler]` write, written by hand.
///
/// The attributes are sugar. They write what stands here and no more, so the two can be mixed: for types and functions that
/// a macro of your own generates, or for an event whose payload is not JSON-like by serde.
///
/// ```
/// use evented::{
///     Background, Context, Event, HandlerArg, Immediate, InProcess, Policy, Priority, State, Terms,
///     by_hand::{Encode, EventDef, HandlerDef, InProcessCall, Slot, StoredCall, json},
/// };
///
/// # #[derive(Default)] struct Metrics;
/// # impl Metrics { fn count(&self) {} }
/// # struct Mailer;
/// # impl Mailer { async fn send(&self, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
/// // #[event(aliases("OrderReceived"))]
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OrderPlaced {
///     email: String,
/// }
///
/// impl Event for OrderPlaced {
///     const ID: &'static str = "OrderPlaced";
///     type Delivery = Immediate;
///     const ENCODE: Option<Encode<Self>> = Some(json);
///
///     fn slot() -> &'static Slot<Self> {
///         static SLOT: Slot<OrderPlaced> = Slot::new();
///         &SLOT
///     }
/// }
/// evented::register!(EventDef::of::<OrderPlaced>().aliases(&["OrderReceived"]));
///
/// // #[handler(OrderPlaced)]
/// fn count_order(_event: &OrderPlaced, metrics: State<Metrics>) {
///     metrics.count();
/// }
/// evented::register!(
///     HandlerDef::in_process::<OrderPlaced>(
///         "count_order",
///         &InProcessCall::Plain(|event, context| {
///             count_order(event, context.state()?);
///             Ok(())
///         }),
///     )
///     .needs(&[<State<Metrics> as HandlerArg<'_, InProcess>>::needs])
/// );
///
/// // #[handler(OrderPlaced, background(queue = "mail", retries = 8, priority = "high"))]
/// async fn send_mail(event: OrderPlaced, mailer: State<Mailer>) -> Result<(), std::io::Error> {
///     mailer.send(&event.email).await
/// }
/// evented::register!(
///     HandlerDef::background::<OrderPlaced>(
///         "send_mail",
///         &StoredCall::Async(|event, context| {
///             let mailer = context.state();
///             Box::pin(async move { Ok(send_mail(event.take(), mailer?).await?) })
///         }),
///     )
///     .needs(&[<State<Mailer> as HandlerArg<'_, Background>>::needs])
///     .queue("mail")
///     .policy(Policy::DEFAULT.retries(8))
///     .terms(Terms::DEFAULT.priority(Priority::High))
/// );
///
/// let registered: Vec<_> = evented::catalog().into_iter().map(|registered| registered.handler).collect();
/// assert_eq!(registered, ["OrderPlaced/count_order", "OrderPlaced/send_mail"]);
/// ```
///
/// What is not written by hand here is the attributes' advice: a `HandlerDef` of an event that does not fit its route does
/// not compile either, but rustc's own words say so. Two ids that are the same in one crate are found by `run()` alone, and
/// whether the event has the fields that its terms name, nobody asks.
pub mod by_hand {
    pub use crate::{
        def::{EventDef, HandlerDef, StoredCall},
        event::{Encode, Upcast, json, upcast},
        handler::Received,
        slot::{InProcessCall, Running, Slot},
    };
}

/// What the attributes write names these. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        catalog::assert_catalog,
        context::*,
        def::*,
        error::HandlerResult,
        event::*,
        handler::*,
        options,
        registry::LinkDef,
        retry::Policy,
        slot::*,
        terms::{Priority, Terms},
    };
    pub use inventory;
    /// What `EncodeOf` needs in scope, by itself: a user's own names must not meet it.
    pub mod encode_of {
        pub use crate::event::{EncodeOf, NotSerialize};
    }
    pub use std::{
        any::{Any, TypeId},
        compile_error, concat, env, file, line,
        marker::{Send, Sync},
        module_path,
        option::Option,
        primitive::{str, u32},
        result::Result,
        stringify,
        time::Duration,
    };
}
