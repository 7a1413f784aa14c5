use evented::{State, event, handler};

#[event]
struct OrderPlaced;

#[event]
struct OrderShipped;

#[handler(OrderPlaced)]
fn another_event(_: &OrderShipped) {}

#[handler(OrderPlaced)]
async fn another_event_by_value(_: OrderShipped) {}

#[handler(OrderPlaced)]
fn no_event(_: State<String>) {}

fn main() {}
