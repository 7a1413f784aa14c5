//! The attributes of `evented`, which re-exports them: `#[event]` and `#[handler]`.
//!
//! Both work in three steps: parse what is written (`args`), check it (`forms`, `options`, `handled`, `route`, `terms`,
//! `synonyms`, `check`), expand it (`event`, `handler`, of `parts`). A mistake has one message, on the user's token, and all
//! mistakes of an item are reported in one run. What is marked stays in the output as it was written, also in error.

mod args;
mod check;
mod event;
mod forms;
mod handled;
mod handler;
mod options;
mod parts;
mod route;
mod synonyms;
mod terms;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a struct or an enum an event: a fact that can be emitted.
///
/// ```
/// use evented::event;
///
/// #[event]
/// struct OrderPlaced {
///     order_id: u64,
/// }
///
/// #[event(transactional, id = "payments.captured", aliases("PaymentCaptured"))]
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct PaymentCaptured {
///     order_id: u64,
///     amount_cents: u64,
/// }
/// ```
///
/// | option | what it says |
/// |---|---|
/// | `transactional` | The event is only emitted inside a database transaction, with `emit_in`, and exists if, and only if, that commits. Its handlers use `outbox`, `background` or `in_process(in_transaction)`. |
/// | `id = "orders.placed"` | The event's name in stores, logs and the catalogue. It is the type's name unless this says otherwise; the module is never part of it, and `run()` refuses two of one name. 1 to 100 ASCII letters, digits, `_`, `.` and `-`. |
/// | `aliases("old.name", ..)` | Earlier ids: what was stored under them is still delivered. |
/// | `version = 2` | The version of the payloads that are written, from 1. Workers that read only older ones leave them to others. |
/// | `from(OrderPlacedV1, ..)` | The types that earlier versions had, the oldest first: stored payloads become the event through `From`. |
/// | `crate = path` | The path to `evented`, where it is not `::evented`. |
///
/// ```
/// #[evented::event(version = 2, from(SignedUpV1))]
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SignedUp {
///     first: String,
///     last: String,
/// }
///
/// #[derive(serde::Deserialize)]
/// struct SignedUpV1 {
///     name: String,
/// }
///
/// impl From<SignedUpV1> for SignedUp {
///     fn from(earlier: SignedUpV1) -> Self {
///         let (first, last) = earlier.name.split_once(' ').unwrap_or((&earlier.name, ""));
///         Self { first: first.to_owned(), last: last.to_owned() }
///     }
/// }
/// ```
///
/// An event is one type that owns its data: it has neither type parameters nor lifetimes, and is `Send + Sync`. It
/// needs serde's `Serialize` and `DeserializeOwned` only to be stored, for a `background` or `outbox` handler. Two
/// events of a crate with one id do not compile; `run()` refuses those of different crates.
///
/// A borrow may not outlive the call that emits it, so it is refused:
///
/// ```compile_fail
/// #[evented::event]
/// struct OrderPlaced<'a> {
///     email: &'a str,
/// }
/// ```
#[proc_macro_attribute]
pub fn event(args: TokenStream, item: TokenStream) -> TokenStream {
    event::expand(args.into(), &item.into()).into()
}

/// Makes a free function a handler of one event, on one route.
///
/// ```
/// use evented::{Delivery, State, event, handler};
///
/// # struct Metrics;
/// # impl Metrics { fn count(&self) {} }
/// # struct Mailer;
/// # impl Mailer { async fn send(&self, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
/// #[event]
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OrderPlaced {
///     email: String,
/// }
///
/// #[handler(OrderPlaced)]
/// fn count_order(_event: &OrderPlaced, metrics: State<Metrics>) {
///     metrics.count();
/// }
///
/// #[handler(OrderPlaced, background(queue = "mail", retries = 8, backoff("1s", max = "1h"), timeout = "30s"))]
/// async fn send_mail(event: OrderPlaced, mailer: State<Mailer>, _delivery: Delivery) -> Result<(), std::io::Error> {
///     mailer.send(&event.email).await
/// }
/// ```
///
/// The event comes first, as a type; then the route, with its options in a list; then the options of the handler
/// itself. Values are literals. The function stays as it is written, and a unit test calls it like any other.
///
/// # Routes
///
/// | route | where the handler runs |
/// |---|---|
/// | none, or `in_process` | inside `emit`, before that returns; once at most |
/// | `in_process(in_transaction)` | inside `emit_in`, before the commit; its error undoes the emit |
/// | `background`, `background(..)` | in a worker, after `emit` stored the event; at least once |
/// | `outbox`, `outbox(..)` | in a worker, after the emitter's commit; at least once, and with `&mut Tx<Db>` its writes happen exactly once |
///
/// The options of `background` and `outbox`; durations are one number and one of `ms`, `s`, `m`, `h`, `d`:
///
/// | option | what it says | default |
/// |---|---|---|
/// | `queue = "mail"` | The queue of its deliveries. | `"default"` |
/// | `retries = 8` | How often a failed delivery is run again before it is a dead letter, 0 to 1000. | 20 |
/// | `backoff("1s", max = "1h")` | The longest wait before the first retry; it doubles up to `max`, `"1h"` if absent. The wait is drawn evenly from zero to that. | `backoff("1s", max = "1h")` |
/// | `backoff(fixed = "10s")` | The same wait before each retry. | |
/// | `timeout = "30s"` | How long one run may take, up to `"7d"`. | `"5m"` |
/// | `priority = "high"` | Which of its queue's deliveries are taken first: `"high"`, `"normal"` or `"low"`. | `"normal"` |
/// | `concurrency = 4` | How many of its deliveries run at once in one process, 1 to 1000. | as many as the queue has slots |
/// | `unique(key = "order_id", within = "10m")` | Of several events with the same value in the field `key`, it gets the first; the others of the time `within` after that, up to `"7d"`, are not stored for it. | |
/// | `ordered_by = "customer_id"` | Deliveries of events with the same value in this field run one after the other, in the order in which they were stored. It excludes `priority`. | |
///
/// The fields in `key` and `ordered_by` are the event's own, and the handler can see them: one that is misspelt does not
/// compile, and neither does one that is private to another module.
///
/// At its timeout the attempt has failed, and what becomes of the handler depends on its kind. The future of an
/// `async fn` is dropped, at the `.await` where it stands; one that blocks its thread has no such place, and cannot be
/// stopped. A plain `fn` cannot be stopped either: it keeps its slot and its delivery until it returns, is tried again
/// only then, and should look at `Delivery::is_cancelled` now and then. A handler with `&mut Tx` on SQLite has a third of
/// the lease at the most, 10 seconds unless `run()` was told otherwise, since it holds the file's write lock.
///
/// The options of the handler itself, on every route:
///
/// | option | what it says |
/// |---|---|
/// | `id = "mail.confirm"` | The handler's name in stores, logs and the catalogue. It is `<event id>/<function name>` unless this says otherwise; `run()` refuses two of one name. |
/// | `aliases("OrderPlaced/old_name", ..)` | Earlier ids: deliveries that are stored under them are still run. |
/// | `crate = path` | The path to `evented`, where it is not `::evented`. |
///
/// # The function
///
/// It is `fn` or `async fn`; a plain `fn` on `background` or `outbox` runs on the blocking pool. Its first argument is
/// the event, by reference or by value; by value, an in-process handler's event must be `Clone`. The others are taken
/// by their types, in any order: `State<T>`, `Delivery`, `&mut Tx<Db>`, and types that implement `HandlerArg`; each of
/// these may have a `#[cfg]`. It returns `()`, or `Result<(), E>` for any error that a `Box<dyn Error + Send + Sync>` can hold.
///
/// `#[tokio::main]` and `#[test]` belong on no handler, neither below this attribute nor above it. What stands above is
/// expanded first: what tokio wrote is seen here, and refused; `#[test]` has by then removed the function from every build
/// but that of tests, and there is nothing left to see.
///
/// A unit test of a handler that emits calls it inside `app.scope(..)`, where `app` is an instance of the test's own,
/// started with `.install(false)`: tests that run at the same time then do not share one.
///
/// An `outbox` handler of an event that is not transactional does not compile:
///
/// ```compile_fail
/// # #[evented::event]
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct OrderPlaced;
/// #[evented::handler(OrderPlaced, outbox)]
/// async fn book(event: OrderPlaced) {}
/// ```
#[proc_macro_attribute]
pub fn handler(args: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(args.into(), &item.into()).into()
}
