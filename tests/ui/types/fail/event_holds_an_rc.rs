//! Handlers run on many threads, and an `Rc` belongs to one. Hold plain data, or an `Arc`.
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
struct OrderPlaced {
    email: std::rc::Rc<str>,
}

fn main() {}
