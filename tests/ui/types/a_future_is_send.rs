use std::rc::Rc;

use evented::{event, handler};

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn count(_: &OrderPlaced) {
    let counter = Rc::new(1);
    std::future::ready(()).await;
    drop(counter);
}

fn main() {}
