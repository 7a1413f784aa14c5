//! The promises of the outbox's rows that were taken, and of those that wait for others: for which queue and which handlers, and in
//! which order.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    id::Key,
    store::{Elsewhere, Fan, Feed, NewDelivery, OutboxRow, Outcome, Relay, Store, Taken},
    time,
};

use super::{
    OutboxSite,
    kit::{Answered, DEADLINE, LONG, SHORT, claim, claim_one, emit, eventually, generation, outbox_of, settle, stored},
    outbox::{
        Goes, OTHER_QUEUE, QUEUE, emit_many, events, finish, of_row, relay, relay_of, relay_when_due, two, with_fan,
    },
};

pub async fn a_row_keeps_the_target_of_its_first_turn(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 1).await;
    let generation = generation(&store).await;
    assert_eq!(events(&relay(&store, SHORT, Goes::Elsewhere).await.claimed), emitted);
    let to_another = || Relay { target: Some(OTHER_QUEUE.into()), ..relay_of(generation, 100, LONG, Goes::Elsewhere) };
    let marker = emit(site, "a row for the other queue").await;
    let mut taken = Vec::new();
    eventually("the other queue's relay finds its own row", async || {
        taken.extend(events(&outbox_of(&other).relay(to_another()).await.answered().claimed));
        !taken.is_empty()
    })
    .await;
    assert_eq!(taken, [marker]);
    let again = relay_when_due(&store, LONG).await;
    assert_eq!(events(&again), emitted, "the lease has ended, and the other relay has left it alone");
    assert!(outbox_of(&other).relay(to_another()).await.answered().claimed.is_empty());
}

pub async fn a_row_keeps_the_handlers_of_its_first_turn(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 1).await;
    assert_eq!(relay(&store, SHORT, Goes::Both).await.claimed.len(), 1);
    assert_eq!(stored(&store, "book").await, (1, 0));
    // Another release has moved both handlers. What it makes of the row is its own decision, by what was written.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&seen);
    let moved = move |row: &OutboxRow| {
        noting.lock().unwrap_or_else(PoisonError::into_inner).extend(row.taken.clone());
        Fan { elsewhere: vec![of_row("book", row)], ..Fan::default() }
    };
    let generation = generation(&other).await;
    let mut again = Vec::new();
    eventually("the lease has ended", async || {
        let relay = with_fan(generation, 100, LONG, moved.clone());
        again = outbox_of(&other).relay(relay).await.answered().claimed;
        !again.is_empty()
    })
    .await;
    assert_eq!(events(&again), emitted);
    let wanted = [Taken { target: QUEUE.into(), handlers: vec!["mail".to_owned()] }];
    assert_eq!(*seen.lock().unwrap_or_else(PoisonError::into_inner), wanted);
    assert_eq!(again[0].taken.as_slice(), wanted, "what was written first stands");
}

pub async fn an_outbox_that_becomes_its_own_queue_keeps_what_was_on_its_way(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let generation = generation(&store).await;
    let ordered = |row: &OutboxRow| NewDelivery { order: Some(Key::derive("mail", "a")), ..of_row("mail", row) };
    let goes = move |row: &OutboxRow| Fan { elsewhere: vec![ordered(row)], ..Fan::default() };
    let stays = move |row: &OutboxRow| Fan { here: vec![ordered(row)], ..Fan::default() };
    let [first, second] = emit_many(site, 2).await[..] else { panic!("two were emitted") };
    let held = outbox_of(&store).relay(with_fan(generation, 1, SHORT, goes)).await.answered().claimed;
    assert_eq!(events(&held), [first]);
    assert_eq!(events(&outbox_of(&store).relay(with_fan(generation, 1, SHORT, goes)).await.answered().claimed), []);
    // The outbox is its own queue from now on: what was on its way to the other stays, before all that is emitted later.
    let own = other.about.identity();
    outbox_of(&other).feed(Feed::Adopt(own.clone())).await.answered();
    let third = emit(site, "payment 3").await;
    let mut done = 0;
    eventually("all are done", async || {
        let relay = with_fan(super::kit::generation(&other).await, 1, LONG, stays);
        let relay = Relay { target: Some(own.clone()), elsewhere: Elsewhere::Nothing, ..relay };
        let relayed = outbox_of(&other).relay(relay).await.answered();
        assert!(relayed.claimed.is_empty());
        done += relayed.done;
        done == 3
    })
    .await;
    assert_eq!(finish(&store, &held).await, [false]);
    assert_eq!(outbox_of(&store).count().await.answered(), 0);
    for event in [first, second, third] {
        let claimed = claim_one(&store, "mail", LONG).await;
        assert_eq!(claimed.event_id, event, "in their order");
        assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    }
}

pub async fn two_relays_look_at_a_row_a_few_times_at_most(site: &impl OutboxSite) {
    const ROWS: usize = 600;
    let stores = two(site).await;
    emit_many(site, ROWS).await;
    let generation = generation(&stores[0]).await;
    let looks = Arc::new(AtomicUsize::new(0));
    let mut relays = JoinSet::new();
    for store in stores {
        let looks = Arc::clone(&looks);
        relays.spawn(async move {
            loop {
                let looks = Arc::clone(&looks);
                let fan_out = move |row: &OutboxRow| {
                    looks.fetch_add(1, Ordering::Relaxed);
                    let order = Some(Key::derive("book", "a"));
                    Fan { here: vec![NewDelivery { order, ..of_row("book", row) }], ..Fan::default() }
                };
                let relayed = outbox_of(&store).relay(with_fan(generation, 20, LONG, fan_out)).await.answered();
                match relayed.next_due {
                    _ if relayed.done > 0 => {}
                    Some(wait) => time::sleep(wait).await,
                    None => return,
                }
            }
        });
    }
    time::within(DEADLINE, relays.join_all()).await.expect("both come to an end");
    // Each turn of one may look in vain at what the other is to have next.
    let looks = looks.load(Ordering::Relaxed);
    assert!(looks <= 6 * ROWS, "{looks} looks at {ROWS} rows");
}

pub async fn an_outbox_remembers_its_queue(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let feed = async |store: &Store, feed| outbox_of(store).feed(feed).await.answered().map(|fed| fed.to_string());
    let queue = || Some(QUEUE.to_owned());
    assert_eq!(feed(&store, Feed::Ask).await, None);
    assert_eq!(feed(&store, Feed::First(QUEUE.into())).await, queue());
    assert_eq!(feed(&other, Feed::First(OTHER_QUEUE.into())).await, queue());
    assert_eq!(feed(&other, Feed::Ask).await, queue());
    assert_eq!(feed(&site.open_outbox().await, Feed::First(QUEUE.into())).await, queue());
    // A person says that another takes its place: rows on their way go there.
    let emitted = emit_many(site, 1).await;
    assert_eq!(relay(&store, SHORT, Goes::Elsewhere).await.claimed.len(), 1);
    let other_queue = Some(OTHER_QUEUE.to_owned());
    assert_eq!(feed(&other, Feed::Adopt(OTHER_QUEUE.into())).await, other_queue);
    assert_eq!(feed(&store, Feed::First(QUEUE.into())).await, other_queue);
    assert_eq!(feed(&store, Feed::Adopt(OTHER_QUEUE.into())).await, other_queue);
    let generation = generation(&store).await;
    let mut taken = Vec::new();
    eventually("the row goes to the other queue", async || {
        let to_another = Relay { target: Some(OTHER_QUEUE.into()), ..relay_of(generation, 100, LONG, Goes::Elsewhere) };
        taken = events(&outbox_of(&other).relay(to_another).await.answered().claimed);
        !taken.is_empty()
    })
    .await;
    assert_eq!(taken, emitted);
}

pub async fn what_goes_elsewhere_waits_for_rows_of_its_own_key_alone(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let generation = generation(&store).await;
    // Each event's key is the first letter of its payment's name.
    let fan = |row: &OutboxRow| {
        let letter = String::from_utf8_lossy(&row.payload).contains("payment a");
        let ordered =
            |handler: &str, key: &str| NewDelivery { order: Some(Key::derive(handler, key)), ..of_row(handler, row) };
        let key = if letter { "a" } else { "b" };
        Fan { here: vec![ordered("book", key)], elsewhere: vec![ordered("mail", key)], later: None }
    };
    let relay = || with_fan(generation, 100, LONG, fan);
    let first = emit(site, "payment a 1").await;
    let held = outbox_of(&store).relay(relay()).await.answered().claimed;
    assert_eq!(events(&held), [first]);
    let (of_a, of_b) = (emit(site, "payment a 2").await, emit(site, "payment b 1").await);
    let relayed = outbox_of(&other).relay(relay()).await.answered();
    assert_eq!(events(&relayed.claimed), [of_b], "another key goes on, the same one waits");
    // What stays is in order already, and waits for nobody.
    for event in [first, of_a] {
        let claimed = claim(&other, &["book"], LONG).await;
        assert!(claimed.iter().any(|claimed| claimed.event_id == event), "{event}");
        for claimed in claimed {
            assert!(settle(&other, claimed.lease, Outcome::Completed).await);
        }
    }
    assert_eq!(finish(&store, &held).await, [true]);
    let mut rest = Vec::new();
    eventually("the row that waited can be taken", async || {
        rest.extend(events(&outbox_of(&other).relay(relay()).await.answered().claimed));
        !rest.is_empty()
    })
    .await;
    assert_eq!(rest, [of_a]);
}

pub async fn the_deliveries_of_rows_keep_the_order_of_their_keys(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 6).await;
    let generation = generation(&store).await;
    let ordered = |row: &OutboxRow| NewDelivery { order: Some(Key::derive("book", "ada")), ..of_row("book", row) };
    // The first rows in one turn, the others by way of a lease.
    let here = move |row: &OutboxRow| Fan { here: vec![ordered(row)], ..Fan::default() };
    let relayed = outbox_of(&store).relay(with_fan(generation, 3, LONG, here)).await.answered();
    assert_eq!(relayed.done, 3);
    let both = move |row: &OutboxRow| Fan { elsewhere: vec![of_row("mail", row)], ..here(row) };
    let rows = outbox_of(&store).relay(with_fan(generation, 100, LONG, both)).await.answered().claimed;
    assert_eq!(rows.len(), 3);
    assert_eq!(finish(&store, &rows).await, [true; 3]);
    for event in emitted {
        let claimed = claim_one(&other, "book", LONG).await;
        assert_eq!(claimed.event_id, event);
        assert!(settle(&other, claimed.lease, Outcome::Completed).await);
    }
}

/// A turn whose background deliveries all have one order key.
async fn relay_ordered(store: &Store, rows: usize, lease: Duration) -> Vec<OutboxRow> {
    let fan_out = |row: &OutboxRow| {
        let ordered = NewDelivery { order: Some(Key::derive("mail", "customer 1")), ..of_row("mail", row) };
        Fan { elsewhere: vec![ordered], ..Fan::default() }
    };
    let generation = generation(store).await;
    outbox_of(store).relay(with_fan(generation, rows, lease, fan_out)).await.answered().claimed
}

pub async fn a_row_of_an_order_key_waits_for_those_before_it_that_another_relay_has(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 4).await;
    let first = relay_ordered(&store, 2, LONG).await;
    assert_eq!(events(&first), emitted[..2]);
    assert_eq!(events(&relay_ordered(&other, 1_000, LONG).await), [], "they wait for the first two");
    assert_eq!(events(&relay_ordered(&store, 1_000, LONG).await), [], "for each other, too");
    finish(&store, &first).await;
    let mut rest = Vec::new();
    eventually("the rest can be taken", async || {
        rest.extend(relay_ordered(&other, 1_000, LONG).await);
        rest.len() == 2
    })
    .await;
    assert_eq!(events(&rest), emitted[2..]);
}

pub async fn rows_of_an_order_key_go_on_in_order_after_the_death_of_a_relay(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 4).await;
    assert_eq!(events(&relay_ordered(&store, 2, SHORT).await), emitted[..2]);
    let mut all = Vec::new();
    eventually("all are taken", async || {
        let taken = relay_ordered(&other, 1_000, LONG).await;
        finish(&other, &taken).await;
        all.extend(taken);
        all.len() == 4
    })
    .await;
    assert_eq!(events(&all), emitted, "in the order of their commits");
}
