//! An event has no such option, and one that were ignored would be a promise that nobody keeps. Remove it; what it says
//! may be a field of the event.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced {
//!     colour: String,
//! }
//! ```

use evented::prelude::*;

#[event(colour = "red")]
struct OrderPlaced;

fn main() {}
