#![deny(unused_must_use)]
use evented::prelude::*;

#[event]
struct OrderPlaced;

fn main() {
    emit(OrderPlaced);
}
