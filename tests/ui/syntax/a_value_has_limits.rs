use evented::{event, handler};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(retries = 1001))]
async fn too_many_retries(_: OrderPlaced) {}

#[handler(OrderPlaced, background(retries = "8"))]
async fn retries_in_quotes(_: OrderPlaced) {}

#[handler(OrderPlaced, background(retries = "many"))]
async fn retries_in_words(_: OrderPlaced) {}

#[handler(OrderPlaced, background(timeout = "0s"))]
async fn no_time(_: OrderPlaced) {}

#[handler(OrderPlaced, background(timeout = "8d"))]
async fn too_much_time(_: OrderPlaced) {}

#[handler(OrderPlaced, background(backoff("10m", max = "1m")))]
async fn max_below_the_first(_: OrderPlaced) {}

#[handler(OrderPlaced, background(backoff(fixed = "99999999999999999999d")))]
async fn for_ever(_: OrderPlaced) {}

#[handler(OrderPlaced, background(queue = "e mail"))]
async fn queue_with_a_blank(_: OrderPlaced) {}

#[handler(OrderPlaced, background(queue = ""))]
async fn queue_without_a_name(_: OrderPlaced) {}

fn main() {}
