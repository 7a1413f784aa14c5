//! `in_transaction` says where a handler runs. That an event is emitted inside a database transaction only is said by
//! `transactional`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional)]
//! struct PaymentCaptured;
//! ```

use evented::prelude::*;

#[event(in_transaction)]
struct PaymentCaptured;

fn main() {}
