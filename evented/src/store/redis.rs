//! Redis: a queue on a server that many machines reach.
//!
//! Each operation is one script: it runs alone and whole, by the server's clock. Up to five connections for each store: one
//! pushes (`writer.rs`), one exchanges and asks, one renews leases, in the runtime of its caller, one counts and reads dead
//! letters when it is asked to, and one listens for what other processes change (`changes.rs`). Each is opened when it is needed, and again after it broke.
//!
//! All keys begin with one hash tag, `{evented}` or `{..}` of `?prefix=..`, so that a store is in one slot of a cluster:
//!
//! | key | kind | what |
//! |---|---|---|
//! | `store` | hash | `version`, `min_compatible`; the store's own name, `identity`; the catalogue's `generation`; `lanes`, the highest number of a handler; `forgotten`, how many marks were forgotten early since that was told last; `heads`, where a delivery was lost that may have had an order key's turn, and `heads_swept`: from where on claims and sweeps look at `parked`; `suspects_swept`: from where on a sweep looks at `suspects` |
//! | `catalogue` | hash | handler's id -> its entry, in JSON (`catalogue.rs`) |
//! | `lanes` | hash | handler's id -> its number, and the payload versions that were ever stored for it: `3:1,2` |
//! | `retired` | set | ids of retired handlers |
//! | `retired_at` | hash | retired handler's id -> when it was, in milliseconds since 1970 |
//! | `deliveries` | hash | delivery's id -> what never changes of it (`body.rs`) |
//! | `due:<handler's number>:<version>` | zset | a lane: ids of deliveries that wait, by when they may be claimed, in microseconds since 1970; `inf` while they wait for another of their order key |
//! | `leased:<handler's number>:<version>` | zset | ids of those that are leased, by the end of their lease |
//! | `held` | hash | delivery's id -> token, handler's number and version, session, while leased |
//! | `states` | hash | delivery's id -> failed attempts, last error; only where some failed |
//! | `sessions` | zset | sessions by when they have died, unless they are renewed |
//! | `session_leases` | zset | sessions by when the last of their leases has ended, unless they are renewed |
//! | `suspects` | hash | delivery's id -> what is held against it (`blame.lua`), while it is a suspect: waiting, or leased |
//! | `exposed:<handler's number>:<version>`, `tried:..` | zset | ids of suspects that wait to be exposed, or tried singly, by when their first suspicious lease ended; they are in no lane |
//! | `died:<session>` | hash | id of a suspect that died with it last -> exposed or tried then, handler's number, version; it expires |
//! | `order:<key>` | list | ids of an order key's deliveries; the head is due, the others are parked |
//! | `parked` | hash | id of a parked delivery -> its own time, its lane and its key |
//! | `unique:<key>` | text | the delivery that stands for the others of its unique key; it expires |
//! | `once` | zset | ids of deliveries whose push may be repeated, by when it was; of finished ones by when it would have been that are forgotten as soon |
//! | `dead_letters` | hash | delivery's id -> dead letter: number, version, failed, deaths, time, error, body |
//! | `dead`, `dead:<handler's number>` | zset | ids of dead letters by when they died |
//! | `counts` | hash | `<handler's number>:done`, `:retried`, `:dead` |
//! | `paused` | set | names of paused queues |
//! | `changes` | channel | what one process says to the others |
//! | `layout` | hash | `version`, `min_compatible`, for a process of an older release that opens the store |
//! | `leases`, `handlers`, `letters` | text | in the place of what layout 1 has there: its scripts are refused before they write |
//!
//! A server that lost its data, or a part, is gone on with: a delivery without its body is dropped, a settlement of a lease
//! that is gone changes nothing, nobody has died of a session that is gone, and each process records the handlers again that it knew, in the store that has the name that it
//! knew; where none has a name, it has that one. A process that opens a store without a name asks those who listen to it first.
//! The generation is a number of 63 bits, which no script reads as a number.

mod admin;
mod body;
mod catalogue;
mod changes;
mod copies;
mod layout;
mod link;
mod queue;
mod script;
mod suspects;
mod writer;

use std::{pin::Pin, sync::Arc, time::Duration};

use redis::cmd;
use tokio::task::AbortHandle;

use crate::{
    error::StoreError,
    id::SessionId,
    store::{
        About, AdminStore, CatalogueState, CatalogueStore, Claim, DeadLetter, Exchanged, Identity, Lease, Letters,
        Limits, Pending, Push, Pushed, QueueStore, Record, Retention, Settlement, Stats, Step, Store, StoreTime,
        StoreUrl, Suspected, Suspects, Swap, Swept, Term,
    },
};

use self::{catalogue::Known, changes::Changes, layout::Place, link::Link, writer::Writer};

pub(crate) struct RedisStore {
    name: String,
    promise: String,
    writer: Writer,
    link: Arc<Link>,
    keeper: Link,
    /// For what is asked seldom and may be long: a claim must not wait for its answer.
    counter: Link,
    known: Known,
    /// What tells it from the store whose data it has a copy of.
    copy: String,
    changes: Changes,
    listener: AbortHandle,
}

impl RedisStore {
    /// Opens the queue at `url`: `redis://localhost`, `redis://user:password@host:6379/1?prefix=shop`.
    pub(crate) async fn open_queue(url: &StoreUrl) -> Result<Store, StoreError> {
        let place = Place::of(url)?;
        let layout: Arc<str> = place.key("store").into();
        let link = || Link::new(place.client.clone(), Arc::clone(&layout));
        let asking = link();
        let report = layout::report(&asking).await?;
        let own_name = layout::open(&asking, &place.name).await?;
        let asking = Arc::new(asking);
        let identity = copies::identify(&own_name, &report, &asking).await;
        let copy = identity.strip_prefix(&own_name).unwrap_or_default().to_owned();
        let promise = layout::promise(&asking, &place.name, &report).await;
        let changes = Changes::new();
        let listening = changes::listen(place.client.clone(), place.key("changes"), changes.clone());
        let store = Arc::new(Self {
            promise,
            writer: Writer::start(link(), changes.clone()),
            link: asking,
            keeper: link(),
            counter: link(),
            known: Known::new(own_name),
            copy,
            changes,
            listener: tokio::spawn(listening).abort_handle(),
            name: place.name,
        });
        Ok(Store::new(&store).with_admin(store))
    }

    fn say_dropped(&self, deliveries: u64) {
        if deliveries > 0 {
            tracing::error!(deliveries, store = %self.name,
                "redis has lost what these deliveries were made of; they are dropped");
        }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl QueueStore for RedisStore {
    fn push(&self, push: Push) -> Pending<'_, Pushed> {
        self.writer.push(push)
    }

    fn clock(&self) -> Pending<'_, StoreTime> {
        Box::pin(async move {
            let [seconds, micros] = script::tuple(self.link.ask(&cmd("TIME")).await?)?;
            let (seconds, micros): (i64, i64) = (script::digits(seconds)?, script::digits(micros)?);
            Ok(StoreTime(seconds * 1_000 + micros / 1_000))
        })
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        Box::pin(async move {
            let found = queue::exchange(&self.link, &self.changes, &settlements, claim.as_ref()).await?;
            self.say_dropped(found.dropped);
            let mut exchanged = found.exchanged;
            let is_another = found.identity.is_none_or(|identity| identity != self.known.identity());
            if claim.is_some() && (exchanged.generation.is_none() || is_another || found.lacks_lane) {
                // Emits go on when the handlers are known again, also where nobody emits here who would notice. Where that
                // fails, the next look tries it again: this exchange was made.
                match self.read().await {
                    Ok(catalogue) => exchanged.generation = Some(catalogue.generation),
                    Err(error) => tracing::debug!(%error, "the handlers could not be recorded again yet"),
                }
            }
            Ok(exchanged)
        })
    }

    fn suspects(&self, asked: Suspects) -> Pending<'_, Suspected> {
        Box::pin(async move {
            let (suspected, dropped) = suspects::claim(&self.link, &asked).await?;
            self.say_dropped(dropped);
            Ok(suspected)
        })
    }

    fn extend<'a>(&'a self, session: SessionId, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        Box::pin(queue::extend(&self.keeper, session, leases, lease))
    }

    fn leave(&self, session: SessionId) -> Pending<'_, ()> {
        Box::pin(suspects::leave(&self.link, session))
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(self.changes.wait(seen, most))
    }
}

impl CatalogueStore for RedisStore {
    fn record(&self, record: Record) -> Pending<'_, Swap<()>> {
        Box::pin(async move { catalogue::record(&self.link, &self.changes, &record).await })
    }

    fn read(&self) -> Pending<'_, CatalogueState> {
        Box::pin(catalogue::read(&self.link, &self.changes, &self.known, &self.name))
    }

    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>> {
        Box::pin(async move { catalogue::retire(&self.link, &self.changes, &handler, generation).await })
    }
}

impl About for RedisStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> Identity {
        format!("{}{}", self.known.identity(), self.copy).into()
    }

    fn limits(&self) -> Limits {
        writer::LIMITS
    }

    fn promise(&self) -> &str {
        &self.promise
    }

    fn close(&self) {
        self.listener.abort();
    }

    fn keeps(&self) -> &[Term] {
        Term::ALL
    }
}

impl AdminStore for RedisStore {
    fn stats(&self) -> Pending<'_, Stats> {
        Box::pin(admin::stats(&self.counter))
    }

    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()> {
        Box::pin(async move { admin::pause(&self.link, &self.changes, &queue, paused).await })
    }

    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>> {
        Box::pin(async move { admin::dead_letters(&self.counter, handler.as_deref(), limit).await })
    }

    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move { admin::requeue(&self.counter, &self.changes, &letters, up_to).await })
    }

    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move { admin::discard(&self.counter, &self.changes, &letters, up_to).await })
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        Box::pin(async move { admin::sweep(&self.counter, &self.changes, &retention).await })
    }
}
