//! Every form that the grammar has, and what is registered for it.

use std::time::Duration;

use evented::{
    __private::{Call, EventDef, HandlerDef, Policy, StoredCall, inventory},
    Context, Delivery, Error, Event, HandlerArg, Needs, Outbox, State, event, handler,
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
const LINE_AFTER_PAYMENT: u32 = line!();

#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[event(id = "Stored_event.2", transactional)]
struct Stored;

#[event]
struct r#Raw;

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

    let events: Vec<_> = inventory::iter::<EventDef>.into_iter().collect();
    assert_eq!(events.len(), 5);
    let payment = events.iter().find(|event| event.id == Payment::ID).expect("registered");
    assert_eq!(payment.aliases, ["PaymentCaptured", "payment-captured"]);
    assert!(payment.transactional && payment.storable);
    assert_eq!((payment.type_id)(), std::any::TypeId::of::<Payment>());
    assert!(payment.place.file.ends_with("every_form.rs"));
    assert_eq!(payment.place.line, LINE_AFTER_PAYMENT - 1, "the line of the type's name");

    let handlers: Vec<_> = inventory::iter::<HandlerDef>.into_iter().collect();
    assert_eq!(handlers.len(), 12);
    let handler = |name| *handlers.iter().find(|handler| handler.name == name).expect("registered");
    assert_eq!(handler("by_value").id, Some("choice.by-value"));
    assert_eq!(handler("by_value").aliases, ["Choice/earlier", "earlier"]);
    assert_eq!(handler("match").id, None);
    assert_eq!(handler("blocking").event, "payments.captured");
    assert!(matches!(handler("sync").call, Call::InProcess(_)));
    assert!(matches!(handler("asynchronous").call, Call::InProcess(_)));
    assert!(matches!(handler("in_transaction").call, Call::InTransaction(_)));
    assert!(matches!(handler("on_the_outbox").call, Call::Outbox { call: StoredCall::Blocking(_), .. }));
    assert!(matches!(handler("arguments_that_borrow").call, Call::Outbox { call: StoredCall::Async(_), .. }));

    let stored = |name| match handler(name).call {
        Call::Background { queue, policy, .. } | Call::Outbox { queue, policy, .. } => (queue, policy),
        Call::InProcess(_) | Call::InTransaction(_) => panic!("`{name}` is in-process"),
    };
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    assert_eq!(stored("blocking"), ("default", Policy::DEFAULT));
    let all = Policy::DEFAULT.retries(8).backoff(second, hour).timeout(30 * second);
    assert_eq!(stored("all_options"), ("mail", all));
    let above = Policy::DEFAULT.backoff(2 * hour, 2 * hour);
    assert_eq!(stored("first_wait_above_the_default_max"), ("default", above));
    let fixed = Policy::DEFAULT.retries(0).backoff_fixed(second / 4).timeout(7 * 24 * hour);
    assert_eq!(stored("fixed"), ("default", fixed));

    // The functions stay as they are written.
    sync(&Plain { number: 1 });
    assert!(by_value(Choice::One).is_ok() && by_value(Choice::Two(2)).is_err());
}
