//! An event may be stored, and handled after the call that emits it has returned, so it cannot borrow from that call.
//! Let it own its data.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced {
//!     email: String,
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced<'a> {
    email: &'a str,
}

fn main() {}
