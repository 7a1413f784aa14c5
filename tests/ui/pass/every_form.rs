//! Every form that the grammar has, and what is registered for it.

use std::time::Duration;

use evented::{
    Context, Delivery, Error, Event, HandlerArg, Needs, Outbox, Policy, Priority, Route, State, Terms, event, handler,
};

#[event]
struct Plain {
    number: u32,
}

#[event()]
#[derive(Clone)]
enum Choice {
    One,
    Two(u32),
}

#[rustfmt::skip]
#[event(transactional, id = "payments.captured", aliases("PaymentCaptured", "payment-captured"),)]
#[derive(serde::Serialize, serde::Deserialize)]
struct Payment(u32);

#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[event(id = "Stored_event.2", transactional)]
struct Stored;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct Keyed {
    order_id: u64,
    customer_id: Option<String>,
    straße: String,
}

#[event]
struct r#Raw;

/// The event's third version.
#[event(version = 3, from(u32, bool))]
#[derive(Debug, PartialEq)]
struct Versioned(String);

impl From<u32> for Versioned {
    fn from(first: u32) -> Self {
        Self(first.to_string())
    }
}

impl From<bool> for Versioned {
    fn from(second: bool) -> Self {
        Self(second.to_string())
    }
}

const LINE_BEFORE_SYNC: u32 = line!();
#[handler(Plain)]
fn sync(event: &Plain) {
    assert_eq!(event.number, 1);
}

#[handler(Plain, in_process)]
async fn asynchronous(_: &Plain, _: State<u32>) -> Result<(), std::io::Error> {
    Ok(())
}

#[handler(Choice, in_process(), id = "choice.by-value", aliases("Choice/earlier", "earlier"))]
fn by_value(event: Choice) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match event {
        Choice::One => Ok(()),
        Choice::Two(number) => Err(format!("{number}").into()),
    }
}

#[handler(Payment, in_process(in_transaction))]
async fn in_transaction<'a>(_: &'a Payment, _: State<&'static str>) -> std::fmt::Result {
    Ok(())
}

#[handler(Payment, background)]
fn blocking(Payment(number): Payment, _: Delivery, _: State<u32>) {
    assert_eq!(number, 1);
}

#[handler(Stored, background(queue = "mail", retries = 8, backoff("1s", max = "1h"), timeout = "30s"))]
async fn all_options(_: &Stored, _: Delivery) -> Result<(), String> {
    Ok(())
}

#[handler(Stored, background(backoff("2h")))]
async fn first_wait_above_the_default_max(_: Stored) {}

#[handler(Stored, outbox(backoff(fixed = "250ms"), retries = 0, timeout = "7d"))]
async fn fixed(_: Stored) {}

#[handler(Keyed, background(priority = "high", concurrency = 4, unique(key = "order_id", within = "10m")))]
async fn on_terms(_: Keyed) {}

#[handler(Keyed, background(ordered_by = "customer_id", unique(within = "7d", key = "straße"), queue = "mail"))]
fn in_order(_: &Keyed) {}

#[handler(Keyed, background(concurrency = 1000, priority = "low"))]
async fn behind_all_others(_: Keyed) {}

#[handler(Keyed, background(priority = "normal", concurrency = 1, unique(key = "customer_id", within = "1ms",)))]
async fn as_most_are(_: Keyed) {}

#[handler(Payment, outbox())]
fn on_the_outbox(_: &Payment) {}

struct Lines<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> HandlerArg<'a, Outbox> for Lines<'a> {
    fn take(_: &mut Context<'a>) -> Result<Self, Error> {
        Ok(Lines(std::marker::PhantomData))
    }
    fn needs(needs: &mut Needs) {
        needs.state::<u32>();
    }
}

struct Connection;

impl<'a> HandlerArg<'a, Outbox> for &'a mut Connection {
    fn take(context: &mut Context<'a>) -> Result<Self, Error> {
        context.state::<u32>()?;
        unreachable!("nothing runs here")
    }
    fn needs(_: &mut Needs) {}
}

/// No transaction of a database.
struct Transaction<T>(T);

impl<'a, R> HandlerArg<'a, R> for Transaction<u32> {
    fn take(_: &mut Context<'a>) -> Result<Self, Error> {
        Ok(Transaction(1))
    }
    fn needs(_: &mut Needs) {}
}

#[handler(Plain)]
fn name_of_a_database_type(_: &Plain, Transaction(_): Transaction<u32>) {}

#[handler(Payment, outbox)]
async fn arguments_that_borrow<'a, 'b>(
    _: &'a Payment,
    #[allow(unused)] mut connection: &'b mut Connection,
    _: Lines<'a>,
    _: Lines<'_>,
) {
    std::future::ready(()).await;
    let _ = connection;
}

#[handler(Raw)]
pub(crate) fn r#match(_: &r#Raw) {}

fn main() {
    assert_eq!((Plain::ID, Payment::ID, Stored::ID, Raw::ID), ("Plain", "payments.captured", "Stored_event.2", "Raw"));
    assert!(Plain::ENCODE.is_none() && Choice::ENCODE.is_none(), "not Serialize");
    assert_eq!(Payment::ENCODE.expect("Serialize")(&Payment(3)).expect("a number"), b"3");
    assert_eq!((Plain::VERSION, Versioned::VERSION, Versioned::EARLIER.len()), (1, 3, 2));
    assert_eq!(Versioned::EARLIER[0](b"7").expect("a number"), Versioned(String::from("7")));
    assert_eq!(Versioned::EARLIER[1](b"true").expect("a bool"), Versioned(String::from("true")));

    let handlers = evented::catalog();
    assert_eq!(handlers.len(), 16);
    let handler = |id: &str| handlers.iter().find(|handler| handler.handler == id).expect("registered");
    assert_eq!(handler("Raw/match").event, "Raw");
    assert_eq!(handler("payments.captured/blocking").event, "payments.captured");
    let route = |id: &str| (handler(id).route, handler(id).in_transaction);
    assert_eq!(route("Plain/sync"), (Route::InProcess, false));
    assert_eq!(route("Plain/asynchronous"), (Route::InProcess, false));
    assert_eq!(route("choice.by-value"), (Route::InProcess, false));
    assert_eq!(route("payments.captured/in_transaction"), (Route::InProcess, true));
    assert_eq!(route("payments.captured/on_the_outbox"), (Route::Outbox, false));
    assert_eq!(route("payments.captured/arguments_that_borrow"), (Route::Outbox, false));

    let at = handler("Plain/sync");
    assert!(at.place.file.ends_with("every_form.rs"), "{}", at.place.file);
    assert_eq!(at.place.line, LINE_BEFORE_SYNC + 2, "the line of the function's name");
    assert_eq!(at.crate_name, module_path!().split("::").next().expect("a crate"));

    let stored = |id: &str| (handler(id).queue.expect("stored"), handler(id).policy.expect("stored"));
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    assert_eq!(stored("payments.captured/blocking"), ("default", Policy::DEFAULT));
    let all = Policy::DEFAULT.retries(8).backoff(second, hour).timeout(30 * second);
    assert_eq!(stored("Stored_event.2/all_options"), ("mail", all));
    let above = Policy::DEFAULT.backoff(2 * hour, 2 * hour);
    assert_eq!(stored("Stored_event.2/first_wait_above_the_default_max"), ("default", above));
    let fixed = Policy::DEFAULT.retries(0).backoff_fixed(second / 4).timeout(7 * 24 * hour);
    assert_eq!(stored("Stored_event.2/fixed"), ("default", fixed));
    assert_eq!(
        handler("Stored_event.2/all_options").to_string().split_once(", crate ").expect("a crate").0,
        r#"Stored_event.2/all_options: Stored_event.2, background(queue = "mail", retries = 8, backoff("1s", max = "1h"), timeout = "30s")"#
    );

    let terms = |id: &str| handler(id).terms.expect("stored");
    assert_eq!(handler("Plain/sync").terms, None);
    assert_eq!(terms("Stored_event.2/all_options"), Terms::DEFAULT);
    let high = Terms::DEFAULT.priority(Priority::High).concurrency(4).unique("order_id", 600 * second);
    assert_eq!(terms("Keyed/on_terms"), high);
    assert_eq!(terms("Keyed/in_order"), Terms::DEFAULT.ordered_by("customer_id").unique("straße", 7 * 24 * hour));
    assert_eq!(terms("Keyed/behind_all_others"), Terms::DEFAULT.priority(Priority::Low).concurrency(1000));
    assert_eq!(terms("Keyed/as_most_are"), Terms::DEFAULT.concurrency(1).unique("customer_id", second / 1000));
    assert_eq!(high.to_string(), r#"priority = "high", concurrency = 4, unique(key = "order_id", within = "10m")"#);
    assert_eq!(
        handler("Keyed/in_order").to_string().split_once("timeout").expect("a policy").1.split_once(", crate").expect("a crate").0,
        r#" = "5m", unique(key = "straße", within = "7d"), ordered_by = "customer_id")"#
    );
    assert!(handler("payments.captured/blocking").to_string().contains(r#"timeout = "5m"), crate"#));

    // The functions stay as they are written.
    sync(&Plain { number: 1 });
    assert!(by_value(Choice::One).is_ok() && by_value(Choice::Two(2)).is_err());
}
