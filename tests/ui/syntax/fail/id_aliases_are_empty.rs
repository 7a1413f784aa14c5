//! `aliases()` names no earlier id. Name one, or leave it out.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(aliases())]
struct OrderPlaced;

fn main() {}
