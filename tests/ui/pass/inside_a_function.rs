//! An event and its handlers may be declared where a test or an example needs them.

#![deny(warnings)]

fn main() {
    use evented::{State, event, handler};

    #[event(id = "in.main")]
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Placed;

    #[handler(Placed, id = "in.main.count")]
    fn count(_: &Placed, _: State<u32>) {}

    #[event(id = "in.main.keyed")]
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Keyed {
        number: u32,
    }

    #[handler(Keyed, background(ordered_by = "number"))]
    fn keep(_: Keyed) {}

    {
        #[handler(Placed, background)]
        async fn mail(_: Placed) {
            std::future::ready(()).await;
        }
    }

    keep(Keyed { number: 1 });
    count(&Placed, State::new(1));
    elsewhere();
}

fn elsewhere() {
    #[evented::event]
    struct Placed;

    #[evented::handler(Placed)]
    fn count(_: &Placed) {}

    count(&Placed);
}
