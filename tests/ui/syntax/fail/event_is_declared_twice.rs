//! A type is one event, with one id. Put all options into one attribute.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional, id = "payments.captured")]
//! struct PaymentCaptured;
//! ```

use evented::prelude::*;

#[event(transactional)]
#[event(id = "payments.captured")]
struct PaymentCaptured;

fn main() {}
