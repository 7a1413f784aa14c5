//! Stores know an event by its id alone, so each has its own. Change one of the two.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.shipped")]
//! struct OrderShipped;
//!
//! #[event(id = "orders.delivered")]
//! struct OrderDelivered;
//! ```

use evented::prelude::*;

#[event(id = "orders.shipped")]
struct OrderShipped;

#[event(id = "orders.shipped")]
struct OrderDelivered;

fn main() {}
