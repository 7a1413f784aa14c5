use evented::{event, handler};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(retires = 5, timeout = "30", queue = 1), id = "mail confirm")]
const unsafe fn send<T>(_: &T, _: &impl Clone) {}

fn main() {}
