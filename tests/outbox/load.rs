//! The events and their handlers. A handler's `Tx` is of one database, so each database has them all.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use evented::{
    EmitIn, InTx, Transaction,
    prelude::*,
    sqlx::{MySql, Postgres},
};
use evented_tests::clock;
use serde::{Deserialize, Serialize};

use crate::{base::Base, notes::Notes};

/// How long a handler without a transaction takes: some are in flight whenever something is killed.
const WORK: Duration = Duration::from_millis(1);
/// Of so many events, one is handled at the second attempt only by a handler with a transaction.
const STUMBLES: i64 = 8;

/// What arrived at the handlers whose speed is measured.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<(AtomicU64, Vec<AtomicU64>)>);

impl Arrivals {
    /// Those of so many events whose times are wanted.
    pub fn timed(events: u64) -> Self {
        Self(Arc::new((AtomicU64::new(0), (0..events).map(|_| AtomicU64::new(0)).collect())))
    }

    fn arrive(&self, number: u64) {
        let (count, times) = &*self.0;
        if let Some(time) = usize::try_from(number).ok().and_then(|at| times.get(at)) {
            time.store(clock::nanos(), Ordering::Relaxed);
        }
        count.fetch_add(1, Ordering::Release);
    }

    /// How many arrived.
    pub fn count(&self) -> u64 {
        self.0.0.load(Ordering::Acquire)
    }

    /// When each arrived.
    pub fn times(&self) -> Vec<u64> {
        self.0.1.iter().map(|time| time.load(Ordering::Relaxed)).collect()
    }
}

/// A handler with a transaction fails after it wrote, now and then; nothing of the attempt may remain.
fn stumble(number: i64, delivery: &Delivery) -> anyhow::Result<()> {
    ensure!(number % STUMBLES != 0 || delivery.attempt() > 1, "the first attempt fails after its write");
    Ok(())
}

/// A database with events and handlers for it.
pub trait Load: Base {
    /// The module whose handlers run while something is killed.
    const KILL: &'static str;
    /// The module of the handler without a transaction whose speed is measured.
    const PLAIN: &'static str;
    /// The module of the one with.
    const IN_TX: &'static str;

    /// What is emitted while something is killed.
    type Ordered: Event;

    fn emit_ordered<T: InTx<Self>>(tx: &mut T, number: i64) -> EmitIn<'_, T, Self::Ordered>;

    /// What is emitted to a handler whose speed is measured.
    fn emit_placed(
        tx: &mut Transaction<Self>,
        in_tx: bool,
        number: u64,
    ) -> impl Future<Output = evented::Result<()>> + Send;
}

/// As many bytes beside the number as make a payload of about 60.
const EMAIL: &str = "ada.lovelace@example.co.uk";

/// How an event is encoded whose speed is measured.
pub fn payload(number: u64) -> Vec<u8> {
    format!(r#"{{"number":{number},"email":"{EMAIL}"}}"#).into_bytes()
}

macro_rules! load {
    ($module:ident, $Db:ident, $Ordered:ident, $Placed:ident, $Booked:ident) => {
        mod $module {
            use super::*;

            pub(super) mod kill {
                use super::*;

                pub(in super::super) const HERE: &str = module_path!();

                #[event(transactional)]
                #[derive(Serialize, Deserialize)]
                pub struct $Ordered {
                    pub number: i64,
                }

                // A server that is killed fails many attempts.
                #[handler($Ordered, outbox(retries = 1000, backoff(fixed = "20ms")))]
                async fn book(event: $Ordered, tx: &mut Tx<$Db>, delivery: Delivery) -> anyhow::Result<()> {
                    $Db::write(tx, $Db::EFFECT, &[event.number]).await?;
                    stumble(event.number, &delivery)
                }

                #[handler($Ordered, outbox(retries = 1000, backoff(fixed = "20ms")))]
                async fn tell(event: $Ordered, notes: State<Notes>, delivery: Delivery) -> io::Result<()> {
                    tokio::time::sleep(WORK).await;
                    notes.told.note(event.number, delivery.attempt().into())
                }

                #[handler($Ordered, background(retries = 1000, backoff(fixed = "20ms")))]
                async fn mail(event: $Ordered, notes: State<Notes>, delivery: Delivery) -> io::Result<()> {
                    tokio::time::sleep(WORK).await;
                    notes.mailed.note(event.number, delivery.attempt().into())
                }

                #[handler($Ordered, background(retries = 1000, backoff(fixed = "20ms")))]
                async fn copy(event: $Ordered, tx: &mut Tx<$Db>, delivery: Delivery) -> anyhow::Result<()> {
                    $Db::write(tx, $Db::EFFECT_INBOX, &[event.number]).await?;
                    stumble(event.number, &delivery)
                }
            }

            pub(super) mod plain {
                use super::*;

                pub(in super::super) const HERE: &str = module_path!();

                #[event(transactional)]
                #[derive(Serialize, Deserialize)]
                pub struct $Placed {
                    pub number: u64,
                    pub email: String,
                }

                #[handler($Placed, outbox)]
                async fn count(event: $Placed, arrivals: State<Arrivals>) {
                    arrivals.arrive(event.number);
                }
            }

            pub(super) mod in_tx {
                use super::*;

                pub(in super::super) const HERE: &str = module_path!();

                #[event(transactional)]
                #[derive(Serialize, Deserialize)]
                pub struct $Booked {
                    pub number: u64,
                    pub email: String,
                }

                #[handler($Booked, outbox)]
                async fn enter(event: $Booked, tx: &mut Tx<$Db>, arrivals: State<Arrivals>) -> anyhow::Result<()> {
                    arrivals.arrive(event.number);
                    Ok($Db::write(tx, $Db::EFFECT, &[event.number.try_into()?]).await?)
                }
            }
        }

        impl Load for $Db {
            const KILL: &'static str = $module::kill::HERE;
            const PLAIN: &'static str = $module::plain::HERE;
            const IN_TX: &'static str = $module::in_tx::HERE;

            type Ordered = $module::kill::$Ordered;

            fn emit_ordered<T: InTx<Self>>(tx: &mut T, number: i64) -> EmitIn<'_, T, Self::Ordered> {
                emit_in(tx, $module::kill::$Ordered { number })
            }

            async fn emit_placed(tx: &mut Transaction<Self>, in_tx: bool, number: u64) -> evented::Result<()> {
                let email = EMAIL.to_owned();
                if in_tx {
                    emit_in(tx, $module::in_tx::$Booked { number, email }).await
                } else {
                    emit_in(tx, $module::plain::$Placed { number, email }).await
                }
            }
        }
    };
}

load!(sqlite, Sqlite, OrderedInSqlite, PlacedInSqlite, BookedInSqlite);
load!(postgres, Postgres, OrderedInPostgres, PlacedInPostgres, BookedInPostgres);
load!(mysql, MySql, OrderedInMySql, PlacedInMySql, BookedInMySql);
