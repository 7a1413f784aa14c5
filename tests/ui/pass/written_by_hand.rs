//! The attributes and `evented::by_hand` say the same: two copies of one shop, of which one is marked, the other written.

#![deny(warnings)]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use evented::{Event, Registered, Route};

/// What the handlers of both copies use.
mod common {
    use std::sync::atomic::AtomicU32;

    #[derive(serde::Deserialize)]
    pub struct OrderPlacedV1(pub u32);

    pub struct Mailer;

    pub static MARKED: AtomicU32 = AtomicU32::new(0);
    pub static WRITTEN: AtomicU32 = AtomicU32::new(0);
}

mod marked {
    use std::sync::atomic::Ordering;

    use evented::{prelude::*, sqlx};

    use crate::common::{MARKED, Mailer, OrderPlacedV1};

    #[event(id = "marked.OrderPlaced", aliases("marked.OrderReceived"), version = 2, from(OrderPlacedV1))]
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    pub struct OrderPlaced {
        pub order_id: u32,
    }

    impl From<OrderPlacedV1> for OrderPlaced {
        fn from(earlier: OrderPlacedV1) -> Self {
            Self { order_id: earlier.0 }
        }
    }

    #[event(id = "marked.PaymentCaptured", transactional)]
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct PaymentCaptured;

    #[event(id = "marked.Counted")]
    pub struct Counted(pub u32);

    #[handler(Counted)]
    fn add(event: &Counted) {
        MARKED.fetch_add(event.0, Ordering::Relaxed);
    }

    #[handler(Counted)]
    async fn add_later(event: &Counted) -> Result<(), String> {
        tokio::task::yield_now().await;
        MARKED.fetch_add(event.0, Ordering::Relaxed);
        Err("a failure is no matter of the emitter's".to_owned())
    }

    #[handler(OrderPlaced)]
    fn look(_: &OrderPlaced, _: State<Mailer>) {}

    #[handler(OrderPlaced)]
    fn keep(_: OrderPlaced) {}

    #[handler(OrderPlaced, background)]
    async fn plan(_: &OrderPlaced) {}

    #[handler(OrderPlaced, background(queue = "print", retries = 0, backoff(fixed = "10s"), ordered_by = "order_id"), aliases("marked.OrderPlaced/p"))]
    fn print(_: OrderPlaced, _: Delivery) -> Result<(), std::io::Error> {
        Ok(())
    }

    #[handler(
        OrderPlaced,
        background(queue = "mail", retries = 8, backoff("1s", max = "2h"), timeout = "30s", priority = "low", concurrency = 2, unique(key = "order_id", within = "1d")),
        id = "marked.mail"
    )]
    async fn send_mail(_: OrderPlaced, _: State<Mailer>, _: Delivery) -> Result<(), std::io::Error> {
        Ok(())
    }

    #[handler(PaymentCaptured, in_process(in_transaction))]
    async fn check(_: &PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), sqlx::Error> {
        sqlx::query("select 1").execute(&mut **tx).await.map(drop)
    }

    #[handler(PaymentCaptured, outbox)]
    async fn book(_: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), sqlx::Error> {
        sqlx::query("select 1").execute(&mut **tx).await.map(drop)
    }
}

mod written {
    use std::{sync::atomic::Ordering, time::Duration};

    use evented::{
        Background, Blocking, Event, HandlerArg, Immediate, InProcess, InTransaction, Outbox, Policy, Priority, Terms, Transactional,
        by_hand::{Encode, EventDef, HandlerDef, InProcessCall, Slot, StoredCall, Upcast, json, upcast},
        prelude::{Delivery, Sqlite, State, Tx},
        sqlx,
    };

    use crate::common::{Mailer, OrderPlacedV1, WRITTEN};

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    pub struct OrderPlaced {
        pub order_id: u32,
    }

    impl From<OrderPlacedV1> for OrderPlaced {
        fn from(earlier: OrderPlacedV1) -> Self {
            Self { order_id: earlier.0 }
        }
    }

    impl Event for OrderPlaced {
        const ID: &'static str = "written.OrderPlaced";
        const VERSION: u32 = 2;
        type Delivery = Immediate;
        const ENCODE: Option<Encode<Self>> = Some(json);
        const EARLIER: &'static [Upcast<Self>] = &[upcast::<OrderPlacedV1, Self>];

        fn slot() -> &'static Slot<Self> {
            static SLOT: Slot<OrderPlaced> = Slot::new();
            &SLOT
        }
    }
    evented::register!(EventDef::of::<OrderPlaced>().aliases(&["written.OrderReceived"]));

    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct PaymentCaptured;

    impl Event for PaymentCaptured {
        const ID: &'static str = "written.PaymentCaptured";
        type Delivery = Transactional;
        const ENCODE: Option<Encode<Self>> = Some(json);

        fn slot() -> &'static Slot<Self> {
            static SLOT: Slot<PaymentCaptured> = Slot::new();
            &SLOT
        }
    }
    evented::register!(EventDef::of::<PaymentCaptured>());

    pub struct Counted(pub u32);

    impl Event for Counted {
        const ID: &'static str = "written.Counted";
        type Delivery = Immediate;

        fn slot() -> &'static Slot<Self> {
            static SLOT: Slot<Counted> = Slot::new();
            &SLOT
        }
    }
    evented::register!(EventDef::of::<Counted>());

    fn add(event: &Counted) {
        WRITTEN.fetch_add(event.0, Ordering::Relaxed);
    }
    evented::register!(HandlerDef::in_process::<Counted>(
        "add",
        &InProcessCall::Plain(|event, _| {
            add(event);
            Ok(())
        }),
    ));

    async fn add_later(event: &Counted) -> Result<(), String> {
        tokio::task::yield_now().await;
        WRITTEN.fetch_add(event.0, Ordering::Relaxed);
        Err("a failure is no matter of the emitter's".to_owned())
    }
    evented::register!(HandlerDef::in_process::<Counted>(
        "add_later",
        &InProcessCall::Async(|event, _| Box::pin(async move { Ok(add_later(event).await?) })),
    ));

    fn look(_: &OrderPlaced, _: State<Mailer>) {}
    evented::register!(
        HandlerDef::in_process::<OrderPlaced>(
            "look",
            &InProcessCall::Plain(|event, context| {
                look(event, context.state()?);
                Ok(())
            }),
        )
        .needs(&[<State<Mailer> as HandlerArg<'_, InProcess>>::needs])
    );

    fn keep(_: OrderPlaced) {}
    evented::register!(HandlerDef::in_process::<OrderPlaced>(
        "keep",
        &InProcessCall::Plain(|event, _| {
            keep(event.clone());
            Ok(())
        }),
    ));

    async fn plan(_: &OrderPlaced) {}
    evented::register!(HandlerDef::background::<OrderPlaced>(
        "plan",
        &StoredCall::Async(|event, _| {
            Box::pin(async move {
                plan(event.borrow()).await;
                Ok(())
            })
        }),
    ));

    fn print(_: OrderPlaced, _: Delivery) -> Result<(), std::io::Error> {
        Ok(())
    }
    evented::register!(
        HandlerDef::background::<OrderPlaced>(
            "print",
            &StoredCall::Plain(|event, context| {
                let delivery = <Delivery as HandlerArg<'_, Blocking>>::take(context)?;
                Ok(print(event.take(), delivery)?)
            }),
        )
        .aliases(&["written.OrderPlaced/p"])
        .needs(&[<Delivery as HandlerArg<'_, Blocking>>::needs])
        .queue("print")
        .policy(Policy::DEFAULT.retries(0).backoff_fixed(Duration::from_secs(10)))
        .terms(Terms::DEFAULT.ordered_by("order_id"))
    );

    async fn send_mail(_: OrderPlaced, _: State<Mailer>, _: Delivery) -> Result<(), std::io::Error> {
        Ok(())
    }
    evented::register!(
        HandlerDef::background::<OrderPlaced>(
            "send_mail",
            &StoredCall::Async(|event, context| {
                let mailer = context.state();
                let delivery = <Delivery as HandlerArg<'_, Background>>::take(context);
                Box::pin(async move { Ok(send_mail(event.take(), mailer?, delivery?).await?) })
            }),
        )
        .id("written.mail")
        .needs(&[
            <State<Mailer> as HandlerArg<'_, Background>>::needs,
            <Delivery as HandlerArg<'_, Background>>::needs,
        ])
        .queue("mail")
        .policy(
            Policy::DEFAULT
                .retries(8)
                .backoff(Duration::from_secs(1), Duration::from_secs(2 * 3600))
                .timeout(Duration::from_secs(30)),
        )
        .terms(
            Terms::DEFAULT.priority(Priority::Low).concurrency(2).unique("order_id", Duration::from_secs(24 * 3600)),
        )
    );

    async fn check(_: &PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), sqlx::Error> {
        sqlx::query("select 1").execute(&mut **tx).await.map(drop)
    }
    evented::register!(
        HandlerDef::in_transaction::<PaymentCaptured>(
            "check",
            &InProcessCall::Async(|event, context| {
                let tx = <&mut Tx<Sqlite> as HandlerArg<'_, InTransaction>>::take(context);
                Box::pin(async move { Ok(check(event, tx?).await?) })
            }),
        )
        .needs(&[<&mut Tx<Sqlite> as HandlerArg<'_, InTransaction>>::needs])
    );

    async fn book(_: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), sqlx::Error> {
        sqlx::query("select 1").execute(&mut **tx).await.map(drop)
    }
    evented::register!(
        HandlerDef::outbox::<PaymentCaptured>(
            "book",
            &StoredCall::Async(|event, context| {
                let tx = <&mut Tx<Sqlite> as HandlerArg<'_, Outbox>>::take(context);
                Box::pin(async move { Ok(book(event.take(), tx?).await?) })
            }),
        )
        .needs(&[<&mut Tx<Sqlite> as HandlerArg<'_, Outbox>>::needs])
    );
}

/// What the catalogue says of the handlers of one copy, but for the copy's name, and for the line.
fn of(copy: &str) -> Vec<Registered> {
    let prefix = format!("{copy}.");
    let all = evented::catalog().into_iter();
    let these = all.filter_map(|mut handler| {
        handler.handler = handler.handler.strip_prefix(&prefix)?.to_owned();
        handler.event = handler.event.strip_prefix(&prefix).expect("the handler's copy is the event's");
        assert_eq!(handler.place.module, format!("{}::{copy}", handler.crate_name));
        (handler.place.module, handler.place.line) = ("", 0);
        Some(handler)
    });
    these.collect()
}

/// What an event's own implementation says, but for the copy's name. `sample` is encoded, and `earlier` read.
fn say<E: Event>(sample: &E, earlier: &[u8]) -> (&'static str, u32, Option<Vec<u8>>, Vec<Option<Vec<u8>>>) {
    let encode = |event: &E| E::ENCODE.map(|encode| encode(event).expect("it can be encoded"));
    let earlier = E::EARLIER.iter().map(|read| encode(&read(earlier).expect("it can be read")));
    (E::ID.split_once('.').expect("a copy").1, E::VERSION, encode(sample), earlier.collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> evented::Result<()> {
    let (marked, written) = (of("marked"), of("written"));
    assert_eq!(marked, written);
    assert_eq!(evented::catalog().len(), marked.len() + written.len());
    let ids: Vec<_> = marked.iter().map(|handler| (&*handler.handler, handler.route, handler.in_transaction)).collect();
    let expected = [
        ("Counted/add", Route::InProcess, false),
        ("Counted/add_later", Route::InProcess, false),
        ("OrderPlaced/keep", Route::InProcess, false),
        ("OrderPlaced/look", Route::InProcess, false),
        ("OrderPlaced/plan", Route::Background, false),
        ("OrderPlaced/print", Route::Background, false),
        ("PaymentCaptured/book", Route::Outbox, false),
        ("PaymentCaptured/check", Route::InProcess, true),
        ("mail", Route::Background, false),
    ];
    assert_eq!(ids, expected);
    let mail = marked.last().and_then(|handler| handler.policy).expect("it is stored");
    assert_eq!(mail, evented::Policy::DEFAULT.retries(8).backoff(HOUR / 3600, 2 * HOUR).timeout(HOUR / 120));

    let (one, other) = (marked::OrderPlaced { order_id: 7 }, written::OrderPlaced { order_id: 7 });
    assert_eq!(say(&one, b"8"), say(&other, b"8"));
    let json = |id: u32| Some(format!(r#"{{"order_id":{id}}}"#).into_bytes());
    assert_eq!(say(&one, b"8"), ("OrderPlaced", 2, json(7), vec![json(8)]));
    assert_eq!(say(&marked::PaymentCaptured, b""), say(&written::PaymentCaptured, b""));
    assert_eq!(say(&marked::Counted(1), b""), ("Counted", 1, None, vec![]));
    assert_eq!(say(&marked::Counted(1), b""), say(&written::Counted(1), b""));

    // Both are run, without an instance: these need none.
    evented::emit(marked::Counted(2)).await?;
    evented::emit_all([written::Counted(1), written::Counted(1)]).await?;
    let count = |of: &AtomicU32| of.load(Ordering::Relaxed);
    assert_eq!((count(&common::MARKED), count(&common::WRITTEN)), (4, 4));
    Ok(())
}

const HOUR: Duration = Duration::from_secs(3600);
