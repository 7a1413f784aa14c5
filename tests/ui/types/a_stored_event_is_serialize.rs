use evented::{event, handler};

#[event]
struct OrderPlaced;

#[event(transactional)]
#[derive(serde::Serialize)]
struct PaymentCaptured;

#[handler(OrderPlaced, background)]
async fn mail(_: OrderPlaced) {}

#[handler(PaymentCaptured, outbox)]
async fn book(_: PaymentCaptured) {}

fn main() {}
