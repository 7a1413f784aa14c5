#![allow(unused)]
use evented::{prelude::*, sqlx};

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, outbox)]
async fn transaction(_: PaymentCaptured, tx: &mut sqlx::Transaction<'_, Sqlite>) {}

#[handler(PaymentCaptured, in_process(in_transaction))]
async fn connection(_: &PaymentCaptured, conn: &mut sqlx::SqliteConnection) {}

#[handler(PaymentCaptured, outbox)]
async fn twice(_: PaymentCaptured, one: &mut Tx<Sqlite>, two: &mut Tx<Sqlite>) {}

#[handler(PaymentCaptured, outbox)]
fn blocking(_: PaymentCaptured, tx: &mut Tx<Sqlite>) {}

fn main() {}
