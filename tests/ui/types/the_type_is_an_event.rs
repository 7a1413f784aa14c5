use evented::{Delivery, State, event, handler};

#[event]
struct OrderPlaced;

struct OrderShipped;

#[handler(OrderShipped)]
fn by_reference(_: &OrderShipped) {}

#[handler(OrderShipped, background)]
async fn by_value(_: OrderShipped, _: Delivery) {}

#[handler(OrderShipped, outbox)]
async fn on_the_outbox(_: OrderShipped, _: State<String>) {}

#[handler(OrderPlacd)]
fn misspelt(_: &OrderPlaced) {}

fn main() {}
