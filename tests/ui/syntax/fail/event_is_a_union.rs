//! Nobody can tell which field of a union is valid, so no handler could read it. Declare an enum, with one variant for
//! each field.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! enum PaymentCaptured {
//!     Card(u64),
//!     Invoice(u64),
//! }
//! ```

use evented::prelude::*;

#[event]
union PaymentCaptured {
    card: u64,
    invoice: u64,
}

fn main() {}
