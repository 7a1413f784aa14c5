//! What the macros write does not trip the lints of a crate that forbids a lot.

#![forbid(unsafe_code, missing_docs, unreachable_pub, missing_debug_implementations)]
#![forbid(unused_imports, unused_variables, dead_code, private_interfaces, single_use_lifetimes)]
#![deny(warnings, unused, nonstandard_style, future_incompatible, let_underscore, rust_2018_idioms, keyword_idents)]
#![deny(elided_lifetimes_in_paths, explicit_outlives_requirements, redundant_lifetimes)]
#![deny(unused_qualifications, trivial_casts, trivial_numeric_casts, unused_lifetimes, unused_results)]
#![deny(non_ascii_idents, unit_bindings, unnameable_types, redundant_imports, meta_variable_misuse, missing_abi)]
#![deny(clippy::all, clippy::pedantic)]

use evented::{
    __private::{EventArg, HandlerOutput},
    Delivery, Event, HandlerArg, HandlerResult, State, event, handler,
};

/// Placed.
#[event]
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Placed {
    /// Which.
    pub number: u32,
}

/// Paid.
#[event(transactional, id = "orders.paid", aliases("Paid"))]
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Paid {
    /// Which.
    pub number: u32,
}

#[event]
struct NotStored;

/// Kept.
#[event]
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    number: u32,
    /// Dropping it is noticed.
    pub lock: std::sync::Mutex<Vec<u8>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.number = 0;
    }
}

/// Returned.
#[event]
#[deprecated = "orders are final"]
#[derive(Debug)]
pub struct Returned;

/// Its handler.
#[handler(NotStored, in_process)]
#[deprecated = "see `see`"]
fn look(_: &NotStored) {}

/// Counts.
#[handler(Placed)]
pub fn count(_: &Placed, _: State<u32>) {}

#[handler(Placed, id = "placed.mail")]
async fn mail(event: Placed, count: State<u32>) -> HandlerResult {
    let _ = std::future::ready(event.number + *count).await;
    Ok(())
}

#[handler(NotStored)]
fn see(_: &NotStored) {}

#[handler(Paid, background(retries = 8))]
async fn thank(_: Paid, _: Delivery) {
    std::future::ready(()).await;
}

#[handler(Kept, background(unique(key = "number", within = "1h"), ordered_by = "lock"))]
async fn keep(_: Kept) {
    std::future::ready(()).await;
}

#[handler(Paid, outbox(priority = "high", concurrency = 4))]
fn book(event: &Paid, _: Delivery) -> Result<(), std::fmt::Error> {
    if event.number == 0 { Err(std::fmt::Error) } else { Ok(()) }
}

#[handler(Paid, in_process(in_transaction), aliases("Paid/old"))]
fn check(_: &Paid) {}

/// Uses what is imported above only so that a full path to it would be an unnecessary one.
fn uses<'a, E: Event, A: EventArg<'a, E, evented::InProcess>, B: HandlerArg<'a, evented::Outbox>, C: HandlerOutput>() {}

fn main() {
    uses::<Placed, &Placed, State<u32>, ()>();
    see(&NotStored);
}
