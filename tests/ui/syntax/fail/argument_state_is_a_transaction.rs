//! A state is what `run()` was given, and outlives every transaction. The one that the handler runs in is an argument
//! by itself.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! #[handler(PaymentCaptured, outbox)]
//! async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, outbox)]
async fn book(event: PaymentCaptured, tx: State<Tx<Sqlite>>) {}

fn main() {}
