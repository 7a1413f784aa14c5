//! The attribute sees the call of a macro and not the function that comes of it. Write the attribute inside the macro.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! macro_rules! count {
//!     ($name:ident) => {
//!         #[handler(OrderPlaced)]
//!         fn $name(event: &OrderPlaced) {}
//!     };
//! }
//! count!(count_order);
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

macro_rules! count {
    ($name:ident) => {
        fn $name(event: &OrderPlaced) {}
    };
}

#[handler(OrderPlaced)]
count!(count_order);

fn main() {}
