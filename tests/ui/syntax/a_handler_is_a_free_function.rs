use evented::{event, handler};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

struct Mailer;

impl Mailer {
    #[handler(OrderPlaced)]
    fn send(&self, _: &OrderPlaced) {}
}

#[handler(OrderPlaced)]
struct NoFunction;

fn main() {}
