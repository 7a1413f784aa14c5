#![allow(unused)]
use evented::prelude::*;
use serde::{Deserialize, Serialize};

#[event]
#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order_id: u64,
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct PaymentCaptured {
    order_id: u64,
}

struct NotAnEvent;

async fn outside_a_transaction() {
    emit(PaymentCaptured { order_id: 1 }).await;
}

async fn immediate_inside(tx: &mut evented::sqlx::Transaction<'_, Sqlite>) {
    emit_in(tx, OrderPlaced { order_id: 1 }).await;
}

async fn in_a_pool(pool: &mut evented::sqlx::SqlitePool) {
    emit_in(pool, PaymentCaptured { order_id: 1 }).await;
}

async fn in_a_connection(mut tx: evented::sqlx::Transaction<'_, Sqlite>) {
    emit_in(&mut *tx, PaymentCaptured { order_id: 1 }).await;
}

async fn in_a_borrowed_transaction(tx: &mut Tx<Sqlite>) {
    emit_in(&mut tx, PaymentCaptured { order_id: 1 }).await;
}

async fn no_event() {
    emit(NotAnEvent).await;
}

fn main() {}
