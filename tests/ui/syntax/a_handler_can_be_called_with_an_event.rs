use evented::{State, event, handler};

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn no_arguments() {}

#[handler(OrderPlaced)]
fn event_last(_: State<String>, _: &OrderPlaced) {}

#[handler(OrderPlaced)]
fn mutable(_: &mut OrderPlaced) {}

#[handler(OrderPlaced)]
fn borrowed_state(_: &OrderPlaced, _: &State<String>) {}

#[handler(OrderPlaced)]
fn generic<T>(_: T) {}

#[handler(OrderPlaced)]
fn hidden_generic(_: &OrderPlaced, _: State<Box<impl Clone>>) {}

#[handler(OrderPlaced)]
const fn constant(_: &OrderPlaced) {}

#[handler(OrderPlaced)]
unsafe fn not_safe(_: &OrderPlaced) {}

#[handler(OrderPlaced)]
extern "C" fn foreign(_: &OrderPlaced) {}

#[handler(OrderPlaced)]
fn conditional(_: &OrderPlaced, #[cfg(unix)] _: State<String>) {}

#[handler(OrderPlaced)]
fn never(_: &OrderPlaced) -> ! {
    std::process::exit(1)
}

#[handler(OrderPlaced)]
fn future(_: &OrderPlaced) -> impl Future<Output = ()> {
    std::future::ready(())
}

fn main() {}
