use evented::{event, handler};

#[event]
struct OrderPlaced;

struct Mailer;

impl Mailer {
    #[handler(OrderPlaced, id = "mail.confirm")]
    async fn confirm(_: &OrderPlaced) {}

    #[handler(OrderPlaced)]
    fn count(_: &OrderPlaced) {}
}

fn main() {}
