use evented::{event, handler};

#[event(transctional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, backgroud)]
async fn misspelt_route(_: OrderPlaced) {}

#[handler(OrderPlaced, background(retires = 8))]
async fn misspelt_option(_: OrderPlaced) {}

#[handler(OrderPlaced, background(colour = "red"))]
async fn invented(_: OrderPlaced) {}

#[handler(OrderPlaced, background("mail"))]
async fn without_a_name(_: OrderPlaced) {}

fn main() {}
