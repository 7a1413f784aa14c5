//! What is stored under an alias can be of one event only. Leave it to the one that had that id.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(aliases("orders.sent"))]
//! struct OrderShipped;
//!
//! #[event]
//! struct OrderDelivered;
//! ```

use evented::prelude::*;

#[event(aliases("orders.sent"))]
struct OrderShipped;

#[event(aliases("orders.sent"))]
struct OrderDelivered;

fn main() {}
