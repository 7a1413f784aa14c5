use evented::event;

#[event]
struct OrderPlaced {
    email: std::rc::Rc<str>,
}

fn main() {}
