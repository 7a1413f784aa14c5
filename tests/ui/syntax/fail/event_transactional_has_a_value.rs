//! `transactional` is true where it stands, and false where it is absent. Write it without a value, or leave it out.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional)]
//! struct PaymentCaptured;
//! ```

use evented::prelude::*;

#[event(transactional = true)]
struct PaymentCaptured;

fn main() {}
