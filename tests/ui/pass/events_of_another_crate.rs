//! A handler may be of an event that another crate declares, by whatever name that is known here.

#![deny(warnings)]

use std::sync::atomic::{AtomicU32, Ordering};

use evented::{Event, prelude::*};
use evented_tests::twin::Twin;

type Alias = Twin;

mod facade {
    pub use evented_tests::twin::{self as renamed, Twin as Renamed};
    pub type Alias = super::Alias;
}

static RUNS: AtomicU32 = AtomicU32::new(0);

fn count(_: &Twin) {
    RUNS.fetch_add(1, Ordering::Relaxed);
}

#[handler(Twin)]
fn by_its_name(event: &Twin) {
    count(event);
}

#[handler(Alias, in_process)]
fn by_an_alias(event: &Twin) {
    count(event);
}

#[handler(facade::Alias)]
async fn by_an_alias_of_an_alias(event: &Alias) {
    count(event);
}

#[handler(facade::Renamed)]
fn by_a_re_export(event: &Twin) {
    count(event);
}

#[handler(self::facade::renamed::Twin)]
fn by_a_module_that_is_re_exported(event: &facade::Renamed) {
    count(event);
}

#[handler(evented_tests::twin::Twin)]
fn by_its_path(event: &evented_tests::twin::Twin) {
    count(event);
}

#[handler(::evented_tests::twin::Twin, id = "here.by_its_full_path")]
fn by_its_full_path(event: &::evented_tests::twin::Twin) {
    count(event);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> evented::Result<()> {
    assert_eq!(Twin::ID, "Twin");
    let here = module_path!().split("::").next().expect("a crate");
    let registered = evented::catalog();
    let registered: Vec<_> =
        registered.iter().map(|handler| (&*handler.handler, handler.event, handler.crate_name)).collect();
    let expected = [
        ("Twin/by_a_module_that_is_re_exported", "Twin", here),
        ("Twin/by_a_re_export", "Twin", here),
        ("Twin/by_an_alias", "Twin", here),
        ("Twin/by_an_alias_of_an_alias", "Twin", here),
        ("Twin/by_its_name", "Twin", here),
        ("Twin/by_its_path", "Twin", here),
        ("Twin/ring", "Twin", "evented_tests"),
        ("here.by_its_full_path", "Twin", here),
    ];
    assert_eq!(registered, expected);

    emit(Twin).await?;
    assert_eq!(RUNS.load(Ordering::Relaxed), 7, "each once");
    Ok(())
}
