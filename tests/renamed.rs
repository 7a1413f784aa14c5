//! A crate of an earlier edition that gives evented another name in its Cargo.toml, forbids what it can, and is held to all
//! of clippy's pedantry.

use std::{env, fs, path::Path, process::Command};

const MANIFEST: &str = r#"
[package]
name = "renamed-case"
version = "0.0.0"
edition = "2021"

[dependencies]
happenings = { package = "evented", path = "EVENTED" }
serde = { version = "1", features = ["derive"] }

[workspace]
"#;

const SOURCE: &str = r#"//! Every kind of registration.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unused, unused_qualifications, rust_2018_idioms)]
#![deny(clippy::all, clippy::pedantic)]

use happenings::{event, handler, sqlx::Sqlite, Delivery, State, Tx};
use serde::{Deserialize, Serialize};

/// Placed.
#[event(version = 2, from(OrderPlacedV1), crate = happenings)]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderPlaced {
    /// Which.
    pub order_id: u64,
}

/// As it was.
#[derive(Debug, Deserialize)]
pub struct OrderPlacedV1(u64);

impl From<OrderPlacedV1> for OrderPlaced {
    fn from(earlier: OrderPlacedV1) -> Self {
        Self { order_id: earlier.0 }
    }
}

/// Captured.
#[event(transactional, id = "payments.captured", aliases("PaymentCaptured"), crate = happenings)]
#[derive(Debug, Serialize, Deserialize)]
pub struct PaymentCaptured {
    /// Of which order.
    pub order_id: u64,
}

/// Counts.
#[handler(OrderPlaced, crate = happenings)]
pub fn count(_event: &OrderPlaced, _counter: State<u64>) {}

/// Confirms.
///
/// # Errors
/// None.
#[handler(OrderPlaced, background(queue = "mail", retries = 8, backoff("1s", max = "1h"), timeout = "30s"), crate = happenings)]
pub async fn confirm(event: OrderPlaced, _delivery: Delivery) -> Result<(), std::fmt::Error> {
    std::future::ready(()).await;
    if event.order_id == 0 { Err(std::fmt::Error) } else { Ok(()) }
}

/// Writes.
#[handler(OrderPlaced, background, id = "invoices.write", crate = happenings)]
pub fn write(_event: &OrderPlaced) {}

/// Checks.
#[handler(PaymentCaptured, in_process(in_transaction), crate = happenings)]
pub async fn check(_event: &PaymentCaptured, _tx: &mut Tx<Sqlite>) {
    std::future::ready(()).await;
}

/// Books.
#[handler(PaymentCaptured, outbox, crate = happenings)]
pub async fn book(_event: PaymentCaptured, _tx: &mut Tx<Sqlite>) {
    std::future::ready(()).await;
}
"#;

#[test]
fn a_strict_crate_of_edition_2021_may_call_evented_by_another_name() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace");
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("renamed");
    fs::create_dir_all(package.join("src")).expect("the folder can be made");
    let evented = workspace.join("evented").display().to_string();
    fs::write(package.join("Cargo.toml"), MANIFEST.replace("EVENTED", &evented)).expect("it can be written");
    fs::write(package.join("src/lib.rs"), SOURCE).expect("it can be written");
    fs::copy(workspace.join("Cargo.lock"), package.join("Cargo.lock")).expect("it can be copied");
    let cargo = Command::new(env!("CARGO"))
        .args(["clippy", "--quiet", "--offline", "--", "-D", "warnings"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
}
