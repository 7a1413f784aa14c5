//! Sessions, and suspects: deliveries whose session died while it had them.

use std::time::Duration;

use crate::{
    id::{Key, SessionId},
    store::{
        Blame, Claim, Claimed, Claims, Lapsed, NewDelivery, Outcome, Store, Suspected, Suspects, TRIED_FROM,
        lived_for_trial,
    },
    time,
};

use super::{
    Site,
    kit::{
        Answered, LONG, SESSION, SHORT, admin_of, claim_one, claim_one_when_due, claims, delayed, deliveries, delivery,
        eventually, nothing_is_due, push, record, retry, settle, stored, wanting,
    },
};

/// How long the session has lived that claims suspects here: for as many charges as there can be.
const OLD: Duration = Duration::from_hours(1);

/// One process that works on the store until it dies.
struct Worker<'s> {
    store: &'s Store,
    session: SessionId,
}

impl<'s> Worker<'s> {
    /// Its session ends soon: it will not be renewed.
    async fn that_will_die(store: &'s Store) -> Self {
        let session = SessionId::mint();
        assert!(store.queue.extend(session, &[], SHORT).await.answered().is_empty());
        Self { store, session }
    }

    async fn that_lives(store: &'s Store) -> Self {
        let session = SessionId::mint();
        assert!(store.queue.extend(session, &[], LONG).await.answered().is_empty());
        Self { store, session }
    }

    async fn claims(&self, lapsed: Lapsed, handlers: &[&str]) -> Claims {
        let claim = Claim { queues: vec![wanting(100, handlers)], lease: SHORT, session: self.session, lapsed };
        self.store.queue.exchange([].into(), Some(claim)).await.answered().claims
    }

    async fn suspects(&self, exposed: usize, tried: Option<Duration>, lease: Duration) -> Suspected {
        let asked = Suspects { queues: vec![wanting(100, &["mail"])], lease, session: self.session, exposed, tried };
        self.store.queue.suspects(asked).await.answered()
    }
}

/// So many deliveries for `mail`, which a session had when it died.
async fn of_a_dead_session(store: &Store, count: usize) -> SessionId {
    push(store, deliveries("mail", count)).await;
    let dead = Worker::that_will_die(store).await;
    assert_eq!(dead.claims(Lapsed::Take, &["mail"]).await.deliveries.len(), count);
    become_suspects(store).await;
    dead.session
}

/// Waits until a claim has met what a dead session had.
async fn become_suspects(store: &Store) {
    let living = Worker::that_lives(store).await;
    eventually("what the dead one had is under suspicion", async || {
        let claims = living.claims(Lapsed::Take, &["mail"]).await;
        assert!(claims.deliveries.is_empty(), "{claims:?}");
        claims.suspects
    })
    .await;
    // What it claimed last ends last.
    time::sleep(2 * SHORT).await;
    assert!(living.claims(Lapsed::Take, &["mail"]).await.deliveries.is_empty());
}

/// The one suspect is exposed, and its process dies.
async fn dies_exposed(store: &Store) -> Claimed {
    let dead = Worker::that_will_die(store).await;
    let mut suspected = dead.suspects(1, None, SHORT).await;
    let claimed = suspected.exposed.pop().expect("it waits to be exposed");
    become_suspects(store).await;
    claimed
}

/// The one suspect is tried singly, and its process dies.
async fn dies_tried(store: &Store) -> Claimed {
    let dead = Worker::that_will_die(store).await;
    let claimed = dead.suspects(8, Some(OLD), SHORT).await.tried.expect("it waits to be tried");
    become_suspects(store).await;
    claimed
}

fn blame(deaths: u32, charges: u32) -> Blame {
    Blame { deaths, charges }
}

pub async fn what_a_living_session_held_is_due_again(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let living = Worker::that_lives(&other).await;
    assert_eq!(living.claims(Lapsed::Take, &["mail"]).await.deliveries.len(), 1);
    let again = claim_one_when_due(&store, "mail", SHORT).await;
    assert_eq!(again.blame, Blame::default());
    assert_eq!(claim_one_when_due(&other, "mail", LONG).await.blame, Blame::default(), "nor of one that nobody knows");
}

pub async fn what_a_dead_session_held_waits_apart(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 3).await;
    nothing_is_due(&other, "mail").await;
    assert_eq!(stored(&other, "mail").await, (3, 0), "waiting, running");
    let worker = Worker::that_lives(&other).await;
    let suspected = worker.suspects(2, None, LONG).await;
    let exposed: Vec<_> = suspected.exposed.iter().map(|claimed| &*claimed.payload).collect();
    assert_eq!(exposed, [b"event 0 for mail", b"event 1 for mail"], "the oldest first, and no more than asked for");
    assert!(suspected.exposed.iter().all(|claimed| claimed.blame == blame(1, 0) && claimed.failed == 0));
    assert!(suspected.more && suspected.tried.is_none());
    let rest = worker.suspects(8, Some(OLD), LONG).await;
    assert_eq!((rest.exposed.len(), rest.more), (1, false));
    for claimed in suspected.exposed.iter().chain(&rest.exposed) {
        assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    }
    assert_eq!(stored(&other, "mail").await, (0, 0));
}

pub async fn a_claim_leaves_ended_leases_where_it_is_told_to(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let dead = Worker::that_will_die(&store).await;
    assert_eq!(dead.claims(Lapsed::Take, &["mail"]).await.deliveries.len(), 1);
    let worker = Worker::that_lives(&store).await;
    push(&store, [delayed(2 * SHORT, delivery("mail", "later"))]).await;
    eventually("the later one is due, and so the first has ended", async || {
        let claims = worker.claims(Lapsed::Leave, &["mail"]).await;
        assert!(!claims.suspects);
        let Some(later) = claims.deliveries.first() else { return false };
        assert_eq!(*later.payload, *b"later");
        settle(&store, later.lease, Outcome::Completed).await
    })
    .await;
    assert_eq!(worker.suspects(8, Some(OLD), LONG).await.exposed.len(), 0);
    become_suspects(&store).await;
}

pub async fn an_ended_session_has_not_died(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let stopped = Worker::that_will_die(&other).await;
    assert_eq!(stopped.claims(Lapsed::Take, &["mail"]).await.deliveries.len(), 1);
    other.queue.leave(stopped.session).await.answered();
    assert_eq!(claim_one_when_due(&store, "mail", LONG).await.blame, Blame::default());
}

pub async fn a_session_that_comes_back_takes_its_deaths_back(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let slept = of_a_dead_session(&store, 2).await;
    let worker = Worker::that_lives(&store).await;
    let running = worker.suspects(1, None, LONG).await.exposed.pop().expect("one is exposed");
    other.queue.extend(slept, &[], LONG).await.answered();
    let waiting = claim_one(&store, "mail", LONG).await;
    assert_eq!(waiting.blame, Blame::default());
    assert!(settle(&store, running.lease, Outcome::Released).await);
    assert_eq!(claim_one(&store, "mail", LONG).await.blame, Blame::default(), "nothing is held against it either");
}

pub async fn a_settled_attempt_ends_suspicion(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 1).await;
    let worker = Worker::that_lives(&store).await;
    let exposed = worker.suspects(1, None, LONG).await.exposed.pop().expect("it is exposed");
    assert!(settle(&store, exposed.lease, retry()).await);
    let claimed = claim_one(&store, "mail", SHORT).await;
    assert_eq!((claimed.blame, claimed.failed), (Blame::default(), 1));
}

pub async fn a_released_suspect_is_the_suspect_that_it_was(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 1).await;
    let worker = Worker::that_lives(&store).await;
    for _ in 0..2 {
        let exposed = worker.suspects(8, Some(OLD), LONG).await.exposed.pop().expect("it is exposed");
        assert_eq!(exposed.blame, blame(1, 0));
        assert!(settle(&store, exposed.lease, Outcome::Released).await);
        nothing_is_due(&store, "mail").await;
    }
    // Its lease ends while its session lives: nobody died.
    let exposed = worker.suspects(8, None, SHORT).await.exposed.pop().expect("it is exposed");
    eventually("it waits as a suspect again", async || {
        assert!(worker.claims(Lapsed::Take, &["mail"]).await.deliveries.is_empty());
        let again = worker.suspects(8, None, LONG).await.exposed.pop();
        again.is_some_and(|again| again.blame == blame(1, 0) && again.lease.token != exposed.lease.token)
    })
    .await;
}

pub async fn after_a_second_death_it_is_tried_singly(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 1).await;
    assert_eq!(dies_exposed(&store).await.blame, blame(1, 0));
    assert_eq!(TRIED_FROM, 2);
    let worker = Worker::that_lives(&store).await;
    let suspected = worker.suspects(8, None, LONG).await;
    assert!(suspected.exposed.is_empty() && suspected.tried.is_none() && suspected.more, "{suspected:?}");
    let suspected = worker.suspects(8, Some(OLD), LONG).await;
    let tried = suspected.tried.expect("nothing else died with it");
    assert_eq!((tried.blame, suspected.exposed.len(), suspected.more), (blame(2, 0), 0, false));
    assert!(settle(&store, tried.lease, Outcome::Released).await);
    assert!(worker.suspects(8, None, LONG).await.exposed.is_empty(), "it is tried again");
    assert!(worker.suspects(8, Some(OLD), LONG).await.tried.is_some());
}

pub async fn one_is_tried_when_all_else_that_died_with_it_is_settled(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 1).await;
    // It dies again, with two that were innocent until then.
    let dead = Worker::that_will_die(&store).await;
    assert_eq!(dead.suspects(1, None, SHORT).await.exposed.len(), 1);
    push(&store, ["a", "b"].map(|key| delivery("mail", key))).await;
    assert_eq!(dead.claims(Lapsed::Take, &["mail"]).await.deliveries.len(), 2);
    become_suspects(&store).await;
    let worker = Worker::that_lives(&store).await;
    let suspected = worker.suspects(8, Some(OLD), LONG).await;
    assert_eq!((suspected.exposed.len(), suspected.tried.is_some()), (2, false));
    let [first, second] = &suspected.exposed[..] else { panic!("two: {suspected:?}") };
    assert!(settle(&store, first.lease, Outcome::Completed).await);
    assert!(worker.suspects(8, Some(OLD), LONG).await.tried.is_none(), "the other runs still");
    assert!(settle(&store, second.lease, retry()).await);
    assert_eq!(worker.suspects(8, Some(OLD), LONG).await.tried.expect("it is the last").blame, blame(2, 0));
}

pub async fn a_death_while_it_is_tried_is_a_charge(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 1).await;
    dies_exposed(&store).await;
    for charges in 0..3 {
        let worker = Worker::that_lives(&store).await;
        let long_enough = lived_for_trial(LONG, charges);
        let young = worker.suspects(8, Some(long_enough.saturating_sub(Duration::from_millis(1))), LONG).await;
        assert!(young.tried.is_none() && young.more, "{charges}: {young:?}");
        let tried = worker.suspects(8, Some(long_enough), LONG).await.tried.expect("it may be tried");
        assert_eq!(tried.blame, blame(2 + charges, charges));
        assert!(settle(&store, tried.lease, Outcome::Released).await);
        assert_eq!(dies_tried(&store).await.blame, blame(2 + charges, charges));
    }
    let worker = Worker::that_lives(&store).await;
    let last = worker.suspects(8, Some(OLD), LONG).await.tried.expect("it is given to be buried");
    assert_eq!(last.blame, blame(5, 3));
    let end = Outcome::Dead { failed: 0, error: "its processes died".to_owned() };
    assert!(settle(&store, last.lease, end).await);
    assert_eq!(admin_of(&store).dead_letters(None, 10).await.answered().len(), 1);
}

pub async fn a_death_is_no_charge_where_another_of_it_died_again(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 1).await;
    dies_exposed(&store).await;
    // While it is tried, its process dies with another one, which kills the next process by itself.
    let dead = Worker::that_will_die(&store).await;
    assert!(dead.suspects(8, Some(OLD), SHORT).await.tried.is_some());
    push(&store, [delivery("mail", "poison")]).await;
    assert_eq!(dead.claims(Lapsed::Take, &["mail"]).await.deliveries.len(), 1);
    become_suspects(&store).await;
    dies_exposed(&store).await;
    let worker = Worker::that_lives(&store).await;
    let mut seen = Vec::new();
    while let Some(tried) = worker.suspects(8, Some(OLD), LONG).await.tried {
        seen.push((tried.payload.to_vec(), tried.blame));
        assert!(settle(&store, tried.lease, Outcome::Completed).await);
    }
    assert_eq!(seen, [(b"event 0 for mail".to_vec(), blame(3, 0)), (b"poison".to_vec(), blame(2, 0))]);
}

pub async fn a_suspect_holds_its_order_key_and_no_other(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let ordered = |key: &str, event: &str| -> NewDelivery {
        NewDelivery { order: Some(Key::derive("mail", key)), ..delivery("mail", event) }
    };
    push(&store, [ordered("ada", "first")]).await;
    let dead = Worker::that_will_die(&store).await;
    assert_eq!(dead.claims(Lapsed::Take, &["mail"]).await.deliveries.len(), 1);
    become_suspects(&store).await;
    push(&store, [ordered("ada", "second"), ordered("bob", "other")]).await;
    let other = claim_one(&store, "mail", LONG).await;
    assert_eq!(*other.payload, *b"other");
    nothing_is_due(&store, "mail").await;
    let worker = Worker::that_lives(&store).await;
    let first = worker.suspects(8, None, LONG).await.exposed.pop().expect("the first is exposed");
    assert_eq!(*first.payload, *b"first");
    assert!(settle(&store, first.lease, Outcome::Completed).await);
    assert_eq!(*claim_one(&store, "mail", LONG).await.payload, *b"second");
}

pub async fn suspects_of_a_paused_queue_or_a_newer_version_wait(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    of_a_dead_session(&store, 1).await;
    let worker = Worker::that_lives(&store).await;
    admin_of(&store).pause("default".to_owned(), true).await.answered();
    assert!(worker.suspects(8, Some(OLD), LONG).await.exposed.is_empty());
    admin_of(&store).pause("default".to_owned(), false).await.answered();
    let mut old = wanting(100, &["mail"]);
    old.handlers[0].version = 0;
    let asked = Suspects { queues: vec![old], lease: LONG, session: worker.session, exposed: 8, tried: Some(OLD) };
    assert!(store.queue.suspects(asked).await.answered().exposed.is_empty());
    assert_eq!(worker.suspects(8, Some(OLD), LONG).await.exposed.len(), 1);
    assert!(claims(&store, vec![wanting(10, &["mail"])], LONG).await.deliveries.is_empty());
    assert_ne!(worker.session, SESSION);
}
