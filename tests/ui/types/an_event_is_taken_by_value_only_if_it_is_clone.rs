use evented::{event, handler};

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count(_: OrderPlaced) {}

fn main() {}
