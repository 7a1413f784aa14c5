//! An event's id is its type's name, whatever its module, and ids are unique. Give one of the two an `id`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced;
//!
//! mod wholesale {
//! # use evented::prelude::*;
//!     #[event(id = "wholesale.OrderPlaced")]
//!     struct OrderPlaced;
//! }
//! # fn main() {}
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

mod wholesale {
    #[evented::event]
    struct OrderPlaced;
}

fn main() {}
