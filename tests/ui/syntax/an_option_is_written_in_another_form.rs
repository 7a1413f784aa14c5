use evented::{event, handler};

#[event(transactional = true)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[event(id("orders.placed"), aliases = "OrderPlaced")]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background = "mail")]
async fn route(_: OrderPlaced) {}

#[handler(OrderPlaced, background(queue("mail"), retries, timeout =, backoff = "1s"))]
async fn options(_: OrderPlaced) {}

#[handler(OrderPlaced, background(backoff("1s", fixed = "10s")))]
async fn two_ways_to_wait(_: OrderPlaced) {}

#[handler(OrderPlaced, in_process(in_transaction = true))]
fn in_transaction(_: &OrderPlaced) {}

#[handler(OrderPlaced, crate = "evented")]
fn path_in_quotes(_: &OrderPlaced) {}

fn main() {}
