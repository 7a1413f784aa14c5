//! `register!` is for one definition that is written by hand. What has an attribute is registered by that.
//!
//! ```
//! # use evented::prelude::*;
//! # struct OrderPlaced;
//! # impl Event for OrderPlaced {
//! #     const ID: &'static str = "OrderPlaced";
//! #     type Delivery = evented::Immediate;
//! #     fn slot() -> &'static evented::by_hand::Slot<Self> {
//! #         static SLOT: evented::by_hand::Slot<OrderPlaced> = evented::by_hand::Slot::new();
//! #         &SLOT
//! #     }
//! # }
//! # fn count(_: &OrderPlaced) {}
//! use evented::by_hand::{EventDef, HandlerDef, InProcessCall};
//!
//! evented::register!(EventDef::of::<OrderPlaced>());
//! evented::register!(HandlerDef::in_process::<OrderPlaced>(
//!     "count",
//!     &InProcessCall::Plain(|event, _| {
//!         count(event);
//!         Ok(())
//!     }),
//! ));
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

fn count(_: &OrderPlaced) {}

evented::register!(OrderPlaced, count);

fn main() {}
