//! The id is what an event is called in stores and logs. Give it a name, or leave `id` out: then it is the type's name.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id = "")]
struct OrderPlaced;

fn main() {}
