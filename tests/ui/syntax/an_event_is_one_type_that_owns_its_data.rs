use evented::{Event, event, handler};

#[event]
struct Borrowed<'a> {
    email: &'a str,
}

#[event]
struct Generic<T> {
    data: T,
}

#[event]
union Union {
    number: u32,
}

#[event]
fn function() {}

// An event with a mistake is an event still: its uses are no mistakes of their own.
#[event(transctional)]
#[derive(Clone)]
struct Misspelt;

#[handler(Misspelt)]
fn on_misspelt(_: Misspelt) {}

fn is_event<E: Event>(_: E) {}

fn main() {
    is_event(Misspelt);
    is_event(Generic { data: 1 });
    is_event(Borrowed { email: "static" });
}
