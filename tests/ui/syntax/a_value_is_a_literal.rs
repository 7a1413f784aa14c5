use evented::{event, handler};

mod limits {
    pub const QUEUE: &str = "mail";
    pub const RETRIES: u32 = 8;
    pub const TIMEOUT: &str = "30s";
}

const ID: &str = "orders.placed";

#[event(id = ID, aliases(OLD_ID, limits::OLD_ID))]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(queue = limits::QUEUE, retries = limits::RETRIES, timeout = limits::TIMEOUT))]
async fn options(_: OrderPlaced) {}

#[handler(OrderPlaced, background(backoff(WAIT)))]
async fn wait(_: OrderPlaced) {}

#[handler(OrderPlaced, background(backoff("1s", max = WAIT)))]
async fn longest_wait(_: OrderPlaced) {}

fn main() {}
