//! An event is one type with one id, and a trait stands for any number of types. Mark the type, and implement the trait
//! for it.
//!
//! ```
//! # use evented::prelude::*;
//! trait OrderEvent {}
//!
//! #[event]
//! struct OrderPlaced;
//!
//! impl OrderEvent for OrderPlaced {}
//! ```

use evented::prelude::*;

#[event]
trait OrderEvent {}

struct OrderPlaced;

impl OrderEvent for OrderPlaced {}

fn main() {}
