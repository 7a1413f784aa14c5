use evented::{event, handler};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler]
fn nothing(_: &OrderPlaced) {}

#[handler(background(queue = "mail"))]
async fn route_first(_: OrderPlaced) {}

#[handler(id = "mail.confirm")]
fn id_first(_: &OrderPlaced) {}

#[handler("OrderPlaced")]
fn in_quotes(_: &OrderPlaced) {}

#[handler(&OrderPlaced)]
fn by_reference(_: &OrderPlaced) {}

fn main() {}
