//! A handler runs when its event is emitted. What is to run at certain times is emitted at those times, by a task of
//! the application.
//!
//! ```
//! # use evented::prelude::*;
//! use std::time::Duration;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct DayEnded;
//! #[handler(DayEnded, background)]
//! async fn send_report(event: DayEnded) {}
//!
//! async fn tell_the_days() -> evented::Result<()> {
//!     let mut days = tokio::time::interval(Duration::from_secs(24 * 3600));
//!     loop {
//!         days.tick().await;
//!         emit(DayEnded).await?;
//!     }
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct DayEnded;

#[handler(DayEnded, background(cron = "0 0 * * *"))]
async fn send_report(event: DayEnded) {}

fn main() {}
