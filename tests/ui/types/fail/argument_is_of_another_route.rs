//! An argument of your own is there on the routes that its `HandlerArg` is implemented for. Implement it for this one,
//! or for all.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! use evented::{Context, Error, HandlerArg, Needs};
//!
//! struct Tenant;
//!
//! impl<'a, R> HandlerArg<'a, R> for Tenant {
//!     fn take(_: &mut Context<'a>) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn needs(_: &mut Needs) {}
//! }
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced, tenant: Tenant) {}
//! ```

#![allow(unused)]

use evented::{Context, Error, HandlerArg, InTransaction, Needs, prelude::*};

#[event]
struct OrderPlaced;

struct Tenant;

impl<'a> HandlerArg<'a, InTransaction> for Tenant {
    fn take(_: &mut Context<'a>) -> Result<Self, Error> {
        Ok(Self)
    }
    fn needs(_: &mut Needs) {}
}

#[handler(OrderPlaced)]
fn count(event: &OrderPlaced, tenant: Tenant) {}

fn main() {}
