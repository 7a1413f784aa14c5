use evented::{event, handler};

#[event(background)]
struct Shipped;

#[event(retries = 8)]
struct Returned;

#[event(timeout)]
struct Paid;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, retries = 8)]
fn of_no_route(_: &OrderPlaced) {}

#[handler(OrderPlaced, in_process(timeout = "30s"))]
fn of_in_process(_: &OrderPlaced) {}

#[handler(OrderPlaced, background, queue = "mail")]
async fn beside_the_route(_: OrderPlaced) {}

#[handler(OrderPlaced, background(id = "mail.confirm"))]
async fn inside_the_route(_: OrderPlaced) {}

#[handler(OrderPlaced, background(max = "1h"))]
async fn outside_backoff(_: OrderPlaced) {}

#[handler(OrderPlaced, queue)]
fn queue_without_a_value(_: &OrderPlaced) {}

#[handler(OrderPlaced, retries, timeout, backoff = "1s")]
fn options_without_values(_: &OrderPlaced) {}

#[handler(OrderPlaced, background, queue("mail"))]
async fn in_another_form_beside_the_route(_: OrderPlaced) {}

#[handler(OrderPlaced, background(id, aliases = "old"))]
async fn in_another_form_inside_the_route(_: OrderPlaced) {}

#[handler(OrderPlaced, in_transaction)]
fn without_in_process(_: &OrderPlaced) {}

#[handler(OrderPlaced, transactional)]
async fn of_the_event(_: OrderPlaced) {}

fn main() {}
