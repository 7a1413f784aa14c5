//! `evented`, the event and the attributes go by other names.

mod facade {
    pub mod inner {
        pub use evented;
    }
    pub use evented::{event as fact, handler as on};
}

mod orders {
    #[crate::facade::fact(crate = crate::facade::inner::evented)]
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Placed;

    pub type Received = Placed;
}

use orders::Placed as Ordered;

#[facade::on(Ordered, crate = facade::inner::evented)]
fn by_another_name(_: &orders::Placed) {}

#[facade::on(orders::Received, background, crate = crate::facade::inner::evented)]
async fn by_an_alias(_: Ordered) {}

macro_rules! notify {
    ($event:ty, $name:ident, $queue:literal, $retries:expr) => {
        #[evented::handler($event, background(queue = $queue, retries = $retries))]
        async fn $name(_: $event) {}
    };
}
notify!(orders::Placed, from_a_macro, "mail", 3);

macro_rules! declare {
    ($name:ident, $id:literal) => {
        #[evented::event(id = $id)]
        struct $name;
    };
}
declare!(Declared, "declared");

#[evented::handler(Declared)]
fn of_a_declared_event(_: &Declared) {}

mod named_like_routes {
    #[evented::event]
    pub struct Background;

    #[evented::handler(Background)]
    fn by_its_name(_: &Background) {}
}

#[evented::handler(named_like_routes::Background)]
fn by_its_path(_: &named_like_routes::Background) {}

fn main() {}
