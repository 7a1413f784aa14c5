//! An alias is an id of earlier, and what is stored under it can be of one event only. Leave it to one of the two.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.shipped")]
//! struct OrderShipped;
//!
//! #[event(aliases("orders.delivered"))]
//! struct OrderDelivered;
//! ```

use evented::prelude::*;

#[event(id = "orders.shipped")]
struct OrderShipped;

#[event(aliases("orders.shipped"))]
struct OrderDelivered;

fn main() {}
