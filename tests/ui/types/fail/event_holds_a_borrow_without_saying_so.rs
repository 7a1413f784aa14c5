//! The event may outlive the call that emits it, so it owns its data. Hold a type that borrows nothing.
//!
//! ```
//! # use evented::prelude::*;
//! struct Address(String);
//!
//! #[event]
//! struct OrderPlaced {
//!     address: Address,
//! }
//! ```

use evented::prelude::*;

struct Address<'a>(&'a str);

#[event]
struct OrderPlaced {
    address: Address,
}

fn main() {}
