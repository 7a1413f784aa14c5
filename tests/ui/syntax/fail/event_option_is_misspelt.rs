//! An event has no option of this name. Take the one that the message suggests.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional)]
//! struct PaymentCaptured;
//! ```

use evented::prelude::*;

#[event(transctional)]
struct PaymentCaptured;

fn main() {}
