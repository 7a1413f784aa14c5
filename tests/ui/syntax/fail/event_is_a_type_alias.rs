//! An alias is another name of a type, and an event is a type of its own. Wrap the other type in a struct.
//!
//! ```
//! # use evented::prelude::*;
//! # struct Order;
//! #[event]
//! struct OrderPlaced(Order);
//! ```

use evented::prelude::*;

struct Order;

#[event]
type OrderPlaced = Order;

fn main() {}
