//! A handler is a function, which is called with the event. A type that says what happened is marked `#[event]`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! enum OrderChanged {
//!     Paid,
//!     Shipped,
//! }
//! ```

use evented::prelude::*;

#[handler(OrderChanged)]
enum OrderChanged {
    Paid,
    Shipped,
}

fn main() {}
