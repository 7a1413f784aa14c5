#![allow(unused)]
use evented::prelude::*;
use serde::{Deserialize, Serialize};

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct PaymentCaptured;

#[event]
struct OrderPlaced;

#[handler(PaymentCaptured, background)]
async fn in_background(event: PaymentCaptured, tx: &mut Tx<Sqlite>) {}

#[handler(PaymentCaptured, background)]
fn blocking(event: PaymentCaptured, tx: &mut Tx<Sqlite>) {}

#[handler(OrderPlaced)]
async fn in_process(event: &OrderPlaced, tx: &mut Tx<Sqlite>) {}

fn main() {}
