//! An event is one type, and a module may hold many. Mark each of them.
//!
//! ```
//! # use evented::prelude::*;
//! mod orders {
//!     use evented::prelude::*;
//!
//!     #[event]
//!     struct OrderPlaced;
//! }
//! ```

use evented::prelude::*;

#[event]
mod orders {
    struct OrderPlaced;
}

fn main() {}
