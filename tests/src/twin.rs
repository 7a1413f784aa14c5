//! An event and a handler whose ids another crate of the tests has too.

use evented::prelude::*;

/// An event of this crate, for handlers of another.
#[event]
pub struct Twin;

#[handler(Twin)]
fn ring(_event: &Twin) {}
