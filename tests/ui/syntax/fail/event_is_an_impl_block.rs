//! The attribute reads the declaration of the type, not its methods. Write it above the `struct` or the `enum`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced;
//!
//! impl OrderPlaced {}
//! ```

use evented::prelude::*;

struct OrderPlaced;

#[event]
impl OrderPlaced {}

fn main() {}
