//! What a `#[cfg]` leaves out is not there, on whichever side of the attribute it stands; what it leaves in is there once.

#![deny(warnings)]

use evented::{Event, Route, prelude::*};

// `all()` holds everywhere, and `any()` nowhere.

#[cfg(all())]
#[event]
struct Above;

#[cfg(any())]
#[event]
struct Above(NoSuchType);

#[event]
#[cfg(all())]
#[cfg_attr(all(), derive(serde::Serialize, serde::Deserialize))]
struct Below {
    #[cfg(all())]
    kept: u32,
    #[cfg(any())]
    left_out: NoSuchType,
}

#[event]
#[cfg(any())]
#[derive(serde::Serialize, serde::Deserialize)]
struct Below;

#[event(no_such_option)]
#[cfg(any())]
struct LeftOut;

#[cfg_attr(all(), event(id = "by.cfg_attr"))]
#[cfg_attr(any(), event(id = "not.this.one"))]
enum ByCfgAttr {
    Kept,
    #[cfg(any())]
    LeftOut(NoSuchType),
}

/// No event, so its name is free for one.
#[cfg_attr(any(), event)]
struct Free;

#[event(id = "Free")]
struct TakesTheName;

#[cfg(all())]
#[handler(Above)]
fn above(_: &Above) {}

#[cfg(any())]
#[handler(Above)]
fn above(_: &NoSuchType) {}

#[handler(Above)]
#[cfg(all())]
fn below(_: &Above) {}

#[handler(Above)]
#[cfg(any())]
fn below(_: &NoSuchType) {}

#[handler(LeftOut, no_such_option)]
#[cfg(any())]
fn left_out(_: &LeftOut) {}

#[cfg(any())]
mod left_out {
    #[evented::handler(super::LeftOut)]
    fn count(_: &super::LeftOut) {}
}

#[cfg_attr(all(), handler(ByCfgAttr, id = "count.by.cfg_attr"), allow(unused_variables))]
fn by_cfg_attr(event: &ByCfgAttr) {}

#[cfg_attr(any(), handler(Above, outbox))]
#[cfg_attr(all(), handler(Above, in_process))]
fn one_of_two(_: &Above) {}

#[cfg_attr(any(), handler(Free))]
fn no_handler(_: &Free) {}

// An argument has no `#[cfg]`: what differs by target is two functions.
#[cfg(all())]
#[handler(Below, background(queue = "mail"))]
async fn other_arguments(_: Below, _: Delivery, _: State<u32>) {}

#[cfg(any())]
#[handler(Below, background(queue = "print"))]
async fn other_arguments(_: Below, _: State<NoSuchType>) {}

#[handler(Below)]
fn in_its_body(event: &Below) {
    #[cfg(any())]
    no_such_function(event);
    #[cfg(all())]
    let kept = event.kept;
    #[cfg(any())]
    let kept = event.left_out;
    assert_eq!(kept, 7);
    match kept {
        #[cfg(any())]
        7 => unreachable!("this arm is left out"),
        kept => assert_eq!(Below { kept, #[cfg(any())] left_out: () }.kept, 7),
    }
}

fn main() {
    assert_eq!((Above::ID, Below::ID, ByCfgAttr::ID, TakesTheName::ID), ("Above", "Below", "by.cfg_attr", "Free"));
    assert!(Above::ENCODE.is_none() && Below::ENCODE.is_some(), "`derive` stands in a `cfg_attr`");

    let registered = evented::catalog();
    let registered: Vec<_> =
        registered.iter().map(|handler| (&*handler.handler, handler.event, handler.route, handler.queue)).collect();
    let expected = [
        ("Above/above", "Above", Route::InProcess, None),
        ("Above/below", "Above", Route::InProcess, None),
        ("Above/one_of_two", "Above", Route::InProcess, None),
        ("Below/in_its_body", "Below", Route::InProcess, None),
        ("Below/other_arguments", "Below", Route::Background, Some("mail")),
        ("count.by.cfg_attr", "by.cfg_attr", Route::InProcess, None),
    ];
    assert_eq!(registered, expected);

    in_its_body(&Below { kept: 7 });
    by_cfg_attr(&ByCfgAttr::Kept);
    no_handler(&Free);
}
