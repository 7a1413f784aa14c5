//! The guard would keep all others out while the handler waits, and it belongs to one thread. Drop it before the
//! `.await`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # #[event] struct MailSent;
//! use std::sync::Mutex;
//!
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced, sent: State<Mutex<u32>>) -> evented::Result<()> {
//!     *sent.lock().unwrap() += 1;
//!     emit(MailSent).await
//! }
//! ```

#![allow(unused)]

use std::sync::Mutex;

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct MailSent;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, sent: State<Mutex<u32>>) -> evented::Result<()> {
    let mut sent = sent.lock().unwrap();
    emit(MailSent).await?;
    *sent += 1;
    Ok(())
}

fn main() {}
