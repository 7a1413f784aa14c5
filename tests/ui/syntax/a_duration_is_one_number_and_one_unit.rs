use evented::{event, handler};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(timeout = "30"))]
async fn no_unit(_: OrderPlaced) {}

#[handler(OrderPlaced, background(timeout = "30 sec"))]
async fn another_unit(_: OrderPlaced) {}

#[handler(OrderPlaced, background(timeout = "1h30m"))]
async fn two_units(_: OrderPlaced) {}

#[handler(OrderPlaced, background(timeout = "soon"))]
async fn no_number(_: OrderPlaced) {}

#[handler(OrderPlaced, background(timeout = 30s))]
async fn no_quotes(_: OrderPlaced) {}

#[handler(OrderPlaced, background(timeout = Duration::from_secs(30)))]
async fn an_expression(_: OrderPlaced) {}

#[handler(OrderPlaced, background(backoff(1, max = 1)))]
async fn two_mistakes(_: OrderPlaced) {}

fn main() {}
