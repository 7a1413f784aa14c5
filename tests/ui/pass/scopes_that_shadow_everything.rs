//! Names that an expansion might rely on mean something else here.

#![no_implicit_prelude]
#![allow(non_camel_case_types, non_upper_case_globals, dead_code, unused_macros, unused_imports)]

mod core {}
mod std {}
mod evented {}
mod diagnostic {}

mod hostile {
    pub struct Result;
    pub struct Option;
    pub struct Some;
    pub struct None;
    pub struct Ok;
    pub struct Err;
    pub struct String;
    pub struct Box;
    pub struct Send;
    pub struct Sync;
    pub struct Event;
    pub struct EncodeOf;
    pub struct NotSerialize;
    pub struct Context;
    pub struct Needs;
    pub struct Terms;
    pub struct Priority;
    pub struct Duration;
    pub struct str;
    pub struct bool;
    pub struct u32;
    pub struct u64;
    pub struct usize;
    pub struct isize;
    pub const event: () = ();
    pub const cx: () = ();
    pub const context: () = ();
    pub const value: () = ();
    pub const error: () = ();
    pub const needs: () = ();
    pub static shim: () = ();
    macro_rules! line {
        () => {
            ::core::compile_error!("not this one")
        };
    }
    macro_rules! file {
        () => {
            ::core::compile_error!("not this one")
        };
    }
    macro_rules! module_path {
        () => {
            ::core::compile_error!("not this one")
        };
    }
    macro_rules! concat {
        () => {
            ::core::compile_error!("not this one")
        };
    }
    pub(crate) use {concat, file, line, module_path};
}
use hostile::*;

#[::evented::event]
#[derive(::std::clone::Clone, ::serde::Serialize, ::serde::Deserialize)]
struct Placed;

mod keyed {
    // serde's own derive does not stand what is hostile.
    #[::evented::event]
    #[derive(::serde::Serialize, ::serde::Deserialize)]
    pub struct Keyed {
        pub __evented_event: (),
    }
}
use keyed::Keyed;

#[::evented::event(transactional, aliases("earlier"))]
#[derive(::serde::Serialize, ::serde::Deserialize)]
struct Paid;

#[::evented::handler(Placed)]
fn sync(_: Placed, _: ::evented::State<()>) {}

#[::evented::handler(self::Placed, in_process, id = "x")]
async fn asynchronous(_: &Placed, _: ::evented::State<()>, _: ::evented::State<u32>) -> ::core::fmt::Result {
    ::core::result::Result::Ok(())
}

#[::evented::handler(Paid, background(queue = "mail", retries = 8, backoff("1s"), timeout = "30s"))]
async fn background(_: Paid, _: ::evented::Delivery, _: ::evented::State<()>) {}

#[::evented::handler(Keyed, background(concurrency = 4, unique(key = "__evented_event", within = "10m"), ordered_by = "__evented_event"))]
async fn keyed(_: Keyed) {}

#[::evented::handler(Paid, background(priority = "high"))]
async fn first(_: Paid) {}

#[::evented::handler(Paid, outbox)]
fn blocking(_: Paid, _: ::evented::Delivery) {}

#[::evented::handler(Paid, in_process(in_transaction))]
fn in_transaction(_: &Paid) {}

fn main() {}
