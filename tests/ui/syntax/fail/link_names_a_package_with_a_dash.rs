//! Cargo's name of a package may have a `-`, and in code it is a `_`.
//!
//! ```
//! # mod my_orders {}
//! evented::link!(my_orders);
//! ```

evented::link!(my-orders);

fn main() {}
