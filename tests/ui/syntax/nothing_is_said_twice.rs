use evented::{event, handler};

#[event(id = "a", id = "b", aliases("a", "c", "c"))]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[event]
#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(OrderPlaced, background(retries = 1, retries = 2))]
async fn option(_: OrderPlaced) {}

#[handler(OrderPlaced, background, outbox)]
async fn route(_: OrderPlaced) {}

#[handler(OrderPlaced)]
#[handler(PaymentCaptured, outbox)]
async fn event_twice(_: PaymentCaptured) {}

fn main() {}
