//! An event and a handler whose ids another crate of the tests has too.

use evented::prelude::*;

#[event]
struct Twin;

#[handler(Twin)]
fn ring(_event: &Twin) {}

/// Named by the test that wants this crate linked.
pub fn link() {}
