//! Payloads of earlier versions of an event, stored by an earlier release.

use evented::prelude::*;
use evented_tests::{Place, Seen, tamper};
use serde::{Deserialize, Serialize};

/// The third version: a name became two, then the number came to it.
#[event(version = 3, from(SignedUpV1, SignedUpV2))]
#[derive(Serialize, Deserialize)]
struct SignedUp {
    first: String,
    last: String,
    number: u32,
}

#[derive(Deserialize)]
struct SignedUpV1 {
    name: String,
}

#[derive(Deserialize)]
struct SignedUpV2 {
    first: String,
    last: String,
}

impl From<SignedUpV1> for SignedUp {
    fn from(earlier: SignedUpV1) -> Self {
        let (first, last) = earlier.name.split_once(' ').unwrap_or((&earlier.name, ""));
        Self { first: first.to_owned(), last: last.to_owned(), number: 1 }
    }
}

impl From<SignedUpV2> for SignedUp {
    fn from(SignedUpV2 { first, last }: SignedUpV2) -> Self {
        Self { first, last, number: 2 }
    }
}

#[handler(SignedUp, background)]
async fn greet(event: SignedUp, seen: State<Seen>) {
    seen.note(format!("{}, {} {}", event.last, event.first, event.number));
}

async fn stored(payload: &str, version: u32) -> (Vec<String>, Vec<String>) {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).await.unwrap();
    app.emit(SignedUp { first: "Grace".to_owned(), last: "Hopper".to_owned(), number: 3 }).await.unwrap();
    app.stop().await;
    tamper(&place, &format!("update evented_deliveries set version = {version}, payload = cast('{payload}' as blob)"))
        .await;
    let app = run!(place, seen).await.unwrap();
    app.until_idle().await.unwrap();
    let dead = app.dead_letters().await.unwrap().into_iter().map(|letter| letter.error).collect();
    app.stop().await;
    (seen.all(), dead)
}

#[tokio::test]
async fn payloads_of_every_named_version_reach_the_handler() {
    let today = r#"{"first":"Grace","last":"Hopper","number":3}"#;
    assert_eq!(stored(today, 3).await, (vec!["Hopper, Grace 3".to_owned()], vec![]));
    assert_eq!(stored(r#"{"first":"Ada","last":"Lovelace"}"#, 2).await.0, ["Lovelace, Ada 2"]);
    assert_eq!(stored(r#"{"name":"Alan Turing"}"#, 1).await.0, ["Turing, Alan 1"]);
}

#[tokio::test]
async fn a_payload_that_its_version_does_not_explain_is_a_dead_letter() {
    let (seen, dead) = stored(r#"{"name":"Alan Turing"}"#, 2).await;
    assert_eq!((seen.len(), dead.len()), (0, 1));
    assert!(dead[0].contains("the payload could not be decoded: missing field `first`"), "{dead:?}");
}

/// The second version, which no longer says what the first was.
#[event(version = 2)]
#[derive(Serialize, Deserialize)]
struct SignedOff(u32);

#[handler(SignedOff, background)]
async fn part(event: SignedOff, seen: State<Seen>) {
    seen.note(format!("part {}", event.0));
}

#[tokio::test]
async fn a_payload_of_a_version_that_no_type_is_named_for_is_a_dead_letter_that_says_so() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).await.unwrap();
    app.emit(SignedOff(1)).await.unwrap();
    app.stop().await;
    tamper(&place, "update evented_deliveries set version = 1").await;
    let app = run!(place, seen).await.unwrap();
    app.until_idle().await.unwrap();
    let dead = app.dead_letters().await.unwrap();
    app.stop().await;
    let error = &dead[0].error;
    assert!(error.contains("it is of version 1, and this build reads `SignedOff` from version 2 to 2"), "{error}");
    assert!(error.contains("name the type of the older version in `from(..)`"), "{error}");
}
