use evented::{event, handler};

#[event(id = "orders/placed")]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[event(aliases("Bestellung eingegangen", "OrderPlaced/send"))]
struct OrderReceived;

#[event]
struct Rückgabe;

#[handler(OrderPlaced, id = "OrderPlaced/send", aliases("OrderPlaced/old/older"))]
fn send(_: &OrderPlaced) {}

#[handler(OrderPlaced)]
fn prüfen(_: &OrderPlaced) {}

fn main() {}
