//! What the attributes write, written by hand: the same registrations, and the same behaviour.

use evented::{
    Background, Context, Event, HandlerArg, Immediate, InProcess, InTransaction, Outbox, Policy, Priority, Terms,
    Transactional,
    by_hand::{Encode, EventDef, HandlerDef, InProcessCall, Running, Slot, StoredCall, Upcast, json, upcast},
    prelude::*,
    sqlx::{SqlitePool, query, query_scalar},
};
use evented_tests::{Place, Seen};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct V1(i64);

async fn enter(tx: &mut Tx<Sqlite>, entry: i64) -> Result<(), evented::sqlx::Error> {
    query("insert into ledger (entry) values (?)").bind(entry).execute(&mut **tx).await.map(drop)
}

/// The functions, which are the same in both.
macro_rules! functions {
    ($($attribute:ident)?) => {
        $(#[$attribute(Placed)])?
        fn count(event: &Placed, seen: State<Seen>) {
            seen.note(format!("count {}", event.number));
        }

        $(#[$attribute(Placed)])?
        async fn look(event: &Placed, seen: State<Seen>) -> Result<(), String> {
            tokio::task::yield_now().await;
            seen.note(format!("look {}", event.number));
            Err("the emitter does not notice".to_owned())
        }

        $(#[$attribute(
            Placed,
            background(
                queue = "mail",
                retries = 1,
                backoff(fixed = "1ms"),
                timeout = "30s",
                priority = "high",
                concurrency = 4,
                unique(key = "number", within = "10m")
            )
        )])?
        async fn mail(event: Placed, seen: State<Seen>, delivery: Delivery) -> Result<(), String> {
            seen.note(format!("mail {} {}", event.number, delivery.attempt()));
            if delivery.attempts_left() > 0 { Err("once more".to_owned()) } else { Ok(()) }
        }

        $(#[$attribute(Placed, background(timeout = "1m", ordered_by = "number"), id = "hand.ship", aliases("hand.old"))])?
        fn ship(event: &Placed, seen: State<Seen>) {
            seen.note(format!("ship {}", event.number));
        }

        $(#[$attribute(Paid, in_process(in_transaction))])?
        async fn check(event: &Paid, tx: &mut Tx<Sqlite>) -> anyhow::Result<()> {
            anyhow::ensure!(event.0 >= 0, "refused");
            enter(tx, event.0 + 1000).await?;
            Ok(())
        }

        $(#[$attribute(Paid, outbox(backoff(fixed = "1ms")))])?
        async fn book(event: Paid, tx: &mut Tx<Sqlite>, seen: State<Seen>) -> Result<(), evented::sqlx::Error> {
            enter(tx, event.0).await?;
            seen.note(format!("book {}", event.0));
            Ok(())
        }
    };
}

mod by_attribute {
    use super::*;

    #[event(id = "hand.placed", aliases("hand.received"), version = 2, from(V1))]
    #[derive(Serialize, Deserialize)]
    pub struct Placed {
        pub number: i64,
    }

    #[event(id = "hand.paid", transactional)]
    #[derive(Serialize, Deserialize)]
    pub struct Paid(pub i64);

    impl From<V1> for Placed {
        fn from(earlier: V1) -> Self {
            Self { number: earlier.0 }
        }
    }

    functions!(handler);

    pub const MODULE: &str = module_path!();
}

/// The same ids but for `hand`, since a binary's ids are unique.
mod by_a_hand {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct Placed {
        pub number: i64,
    }

    #[derive(Serialize, Deserialize)]
    pub struct Paid(pub i64);

    impl From<V1> for Placed {
        fn from(earlier: V1) -> Self {
            Self { number: earlier.0 }
        }
    }

    impl Event for Placed {
        const ID: &'static str = "wrote.placed";
        const VERSION: u32 = 2;
        type Delivery = Immediate;
        const ENCODE: Option<Encode<Self>> = Some(json);
        const EARLIER: &'static [Upcast<Self>] = &[upcast::<V1, Self>];

        fn slot() -> &'static Slot<Self> {
            static SLOT: Slot<Placed> = Slot::new();
            &SLOT
        }
    }
    evented::register!(EventDef::of::<Placed>().aliases(&["wrote.received"]));

    impl Event for Paid {
        const ID: &'static str = "wrote.paid";
        type Delivery = Transactional;
        const ENCODE: Option<Encode<Self>> = Some(json);

        fn slot() -> &'static Slot<Self> {
            static SLOT: Slot<Paid> = Slot::new();
            &SLOT
        }
    }
    evented::register!(EventDef::of::<Paid>());

    functions!();

    evented::register!(
        HandlerDef::in_process::<Placed>(
            "count",
            &InProcessCall::Plain(|event, context| {
                count(event, context.state()?);
                Ok(())
            }),
        )
        .needs(&[<State<Seen> as HandlerArg<'_, InProcess>>::needs])
    );

    evented::register!(
        HandlerDef::in_process::<Placed>(
            "look",
            &InProcessCall::Async(|event, context| {
                let seen = context.state();
                Box::pin(async move { Ok(look(event, seen?).await?) })
            }),
        )
        .needs(&[<State<Seen> as HandlerArg<'_, InProcess>>::needs])
    );

    evented::register!(
        HandlerDef::background::<Placed>(
            "mail",
            &StoredCall::Async(|event, context| {
                let (seen, delivery) = (context.state(), context.delivery().cloned());
                let delivery = delivery.expect("a stored handler has a delivery");
                Box::pin(async move { Ok(mail(event.take(), seen?, delivery).await?) })
            }),
        )
        .needs(&[<State<Seen> as HandlerArg<'_, Background>>::needs, <Delivery as HandlerArg<'_, Background>>::needs,])
        .queue("mail")
        .policy(
            Policy::DEFAULT
                .retries(1)
                .backoff_fixed(std::time::Duration::from_millis(1))
                .timeout(std::time::Duration::from_secs(30)),
        )
        .terms(
            Terms::DEFAULT.priority(Priority::High).concurrency(4).unique("number", std::time::Duration::from_mins(10)),
        )
    );

    evented::register!(
        HandlerDef::background::<Placed>(
            "ship",
            &StoredCall::Plain(|event, context| {
                ship(event.borrow(), context.state()?);
                Ok(())
            }),
        )
        .id("wrote.ship")
        .aliases(&["wrote.old"])
        .needs(&[<State<Seen> as HandlerArg<'_, evented::Blocking>>::needs])
        .policy(Policy::DEFAULT.timeout(std::time::Duration::from_mins(1)))
        .terms(Terms::DEFAULT.ordered_by("number"))
    );

    fn start_check<'a>(event: &'a Paid, context: &mut Context<'a>) -> Running<'a> {
        let tx = <&mut Tx<Sqlite> as HandlerArg<'_, InTransaction>>::take(context);
        Box::pin(async move { Ok(check(event, tx?).await?) })
    }

    evented::register!(
        HandlerDef::in_transaction::<Paid>("check", &InProcessCall::Async(start_check))
            .needs(&[<&mut Tx<Sqlite> as HandlerArg<'_, InTransaction>>::needs])
    );

    evented::register!(
        HandlerDef::outbox::<Paid>(
            "book",
            &StoredCall::Async(|event, context| {
                let tx = <&mut Tx<Sqlite> as HandlerArg<'_, Outbox>>::take(context);
                let seen = context.state();
                Box::pin(async move { Ok(book(event.take(), tx?, seen?).await?) })
            }),
        )
        .needs(&[<&mut Tx<Sqlite> as HandlerArg<'_, Outbox>>::needs, <State<Seen> as HandlerArg<'_, Outbox>>::needs,])
        .policy(Policy::DEFAULT.backoff_fixed(std::time::Duration::from_millis(1)))
    );

    pub const MODULE: &str = module_path!();
}

/// The catalogue's lines of a module's handlers, with the ids of the other module.
fn lines(module: &str) -> Vec<String> {
    let own = evented::catalog().into_iter().filter(|handler| handler.place.module == module);
    let mut lines: Vec<_> = own.map(|handler| handler.to_string().replace("wrote.", "hand.")).collect();
    lines.sort();
    lines
}

#[test]
fn the_catalogue_says_the_same_of_both() {
    let by_attribute = lines(by_attribute::MODULE);
    assert_eq!(by_attribute.len(), 6);
    assert_eq!(by_attribute, lines(by_a_hand::MODULE));
    let terms = [
        r#"priority = "high", concurrency = 4, unique(key = "number", within = "10m"))"#,
        r#"timeout = "1m", ordered_by = "number")"#,
    ];
    for terms in terms {
        assert_eq!(by_attribute.iter().filter(|line| line.contains(terms)).count(), 1, "{terms}: {by_attribute:#?}");
    }
    let of_this_file = |handler: &evented::Registered| handler.place.module.starts_with(module_path!());
    for handler in evented::catalog().iter().filter(|handler| of_this_file(handler)) {
        assert!(handler.place.file.ends_with("tests/it/by_hand.rs") && handler.place.line > 1, "{}", handler.place);
    }
}

/// What is seen and what is written when each event is emitted.
async fn emitted<P, Q>(module: &str, placed: P, paid: Q, refused: Q) -> (Vec<String>, Vec<i64>)
where
    P: Event<Delivery = Immediate>,
    Q: Event<Delivery = Transactional>,
{
    let (place, seen) = (Place::new(), Seen::default());
    let pool: SqlitePool = place.pool().await;
    let app = evented::run().install(false).module(module).queue(place.queue()).outbox(pool.clone());
    let app = app.state(seen.clone()).await.unwrap();
    app.emit(placed).await.unwrap();
    let mut tx = evented::begin(&pool).await.unwrap();
    app.emit_in(&mut tx, paid).await.unwrap();
    let error = app.emit_in(&mut tx, refused).await.unwrap_err();
    assert_eq!(error.kind(), evented::ErrorKind::Handler);
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    app.stop().await;
    let ledger = query_scalar("select entry from ledger order by entry").fetch_all(&pool).await.unwrap();
    let mut seen = seen.all();
    seen.sort();
    (seen, ledger)
}

#[tokio::test]
async fn both_behave_the_same() {
    let of_attribute = {
        use by_attribute::{MODULE, Paid, Placed};
        emitted(MODULE, Placed { number: 17 }, Paid(3), Paid(-1)).await
    };
    let of_hand = {
        use by_a_hand::{MODULE, Paid, Placed};
        emitted(MODULE, Placed { number: 17 }, Paid(3), Paid(-1)).await
    };
    assert_eq!(of_attribute.0, ["book 3", "count 17", "look 17", "mail 17 1", "mail 17 2", "ship 17"]);
    assert_eq!(of_attribute.1, [3, 1003]);
    assert_eq!(of_attribute, of_hand);
}

mod forgotten {
    use super::*;

    struct Nothing;

    impl Event for Nothing {
        const ID: &'static str = "hand.nothing";
        type Delivery = Immediate;

        fn slot() -> &'static Slot<Self> {
            static SLOT: Slot<Nothing> = Slot::new();
            &SLOT
        }
    }

    #[tokio::test]
    #[should_panic(expected = "event `hand.nothing` is not registered; mark its type `#[event]`")]
    async fn an_event_that_is_not_registered_says_so_when_it_is_emitted() {
        emit(Nothing).await.unwrap();
    }
}
