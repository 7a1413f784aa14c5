//! A type that stands elsewhere says nothing of what happened, and cannot be marked here. Wrap it in an event of your
//! own.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct MailReceived(String);
//!
//! #[handler(MailReceived)]
//! fn archive(event: &MailReceived) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[handler(String)]
fn archive(event: &String) {}

fn main() {}
