use evented::{event, handler};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(OrderPlaced, outbox)]
async fn outbox_of_an_immediate_event(_: OrderPlaced) {}

#[handler(OrderPlaced, in_process(in_transaction))]
fn in_transaction_of_an_immediate_event(_: &OrderPlaced) {}

#[handler(PaymentCaptured)]
fn in_process_of_a_transactional_event(_: &PaymentCaptured) {}

fn main() {}
