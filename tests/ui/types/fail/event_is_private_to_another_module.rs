//! A handler names its event as any code names a type, so it must see it. Make the event visible where its handlers
//! are.
//!
//! ```
//! mod orders {
//!     #[evented::event]
//!     pub(crate) struct OrderPlaced;
//! }
//!
//! mod mail {
//!     use super::orders::OrderPlaced;
//!
//!     #[evented::handler(OrderPlaced)]
//!     fn count(event: &OrderPlaced) {}
//! }
//! # fn main() {}
//! ```

#![allow(unused)]

mod orders {
    #[evented::event]
    struct OrderPlaced;
}

mod mail {
    use super::orders::OrderPlaced;

    #[evented::handler(OrderPlaced)]
    fn count(event: &OrderPlaced) {}
}

fn main() {}
