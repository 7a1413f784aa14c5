//! A plain `fn` on a stored route runs on the blocking pool, which is a route of its own. Implement `HandlerArg` for
//! `Blocking` too.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! use evented::{Blocking, Context, Error, HandlerArg, Needs};
//!
//! struct Tenant;
//!
//! impl<'a> HandlerArg<'a, Blocking> for Tenant {
//!     fn take(_: &mut Context<'a>) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn needs(_: &mut Needs) {}
//! }
//!
//! #[handler(OrderPlaced, background)]
//! fn print_label(event: OrderPlaced, tenant: Tenant) {}
//! ```

#![allow(unused)]

use evented::{Background, Context, Error, HandlerArg, Needs, prelude::*};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

struct Tenant;

impl<'a> HandlerArg<'a, Background> for Tenant {
    fn take(_: &mut Context<'a>) -> Result<Self, Error> {
        Ok(Self)
    }
    fn needs(_: &mut Needs) {}
}

#[handler(OrderPlaced, background)]
fn print_label(event: OrderPlaced, tenant: Tenant) {}

fn main() {}
