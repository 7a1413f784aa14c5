use evented::{event, handler};

#[event]
struct OrderPlaced;

mod shop {
    #[evented::event]
    struct OrderPlaced;
}

#[event(id = "orders.shipped")]
struct OrderShipped;

#[event(aliases("orders.shipped"))]
struct OrderSent;

#[handler(OrderPlaced, id = "mail.confirm")]
fn confirm(_: &OrderPlaced) {}

#[handler(OrderShipped, id = "mail.confirm")]
fn inform(_: &OrderShipped) {}

#[handler(OrderSent, aliases("mail.confirm"))]
fn send(_: &OrderSent) {}

fn main() {}
