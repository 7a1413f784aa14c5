use evented::{Delivery, State, event, handler};

#[event]
struct OrderPlaced;

struct Pool;

#[handler(OrderPlaced)]
fn delivery_in_process(_: &OrderPlaced, _: Delivery) {}

#[handler(OrderPlaced)]
async fn not_in_a_state(_: &OrderPlaced, _: Pool, _: u32) {}

#[handler(OrderPlaced)]
fn not_sync(_: &OrderPlaced, _: State<std::cell::Cell<u32>>) {}

fn main() {}
