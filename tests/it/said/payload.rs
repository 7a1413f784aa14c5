//! Payloads are quoted by no text of ours.

use evented::{DeadLetter, prelude::*};
use evented_tests::{Place, Seen, heard::heard, tamper};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// What the payloads hold.
const PRIVATE: &str = "ada, expected S3CRET at line 1";

#[derive(Serialize, Deserialize)]
enum Plan {
    Free,
    Paid,
}

fn picky<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    assert!(!text.starts_with("panic"), "the value is {text}");
    text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no number, expected one")))
}

#[event]
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joined {
    age: u8,
    plan: Plan,
    #[serde(deserialize_with = "picky", serialize_with = "as_text")]
    code: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn as_text<S: serde::Serializer>(code: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(code)
}

#[handler(Joined, background)]
async fn welcome(event: Joined) {
    std::hint::black_box(event);
}

/// The dead letter of a payload that stands in the store in place of the one that was emitted.
async fn letter_of(payload: &str) -> DeadLetter {
    let (place, seen) = (Place::new(), Seen::default());
    let desk = run!(place, seen).role(Role::Emit).await.unwrap();
    desk.emit(Joined { age: 36, plan: Plan::Paid, code: 7 }).await.unwrap();
    std::hint::black_box(Plan::Free);
    tamper(&place, &format!("update evented_deliveries set payload = cast('{payload}' as blob)")).await;
    let app = run!(place, seen).await.unwrap();
    app.until_idle().await.unwrap();
    app.dead_letters().await.unwrap().pop().expect("it could not be decoded")
}

#[tokio::test]
async fn a_payload_that_cannot_be_decoded_is_not_quoted() {
    let heard = heard();
    let whole = |age: &str, plan: &str, code: &str| format!(r#"{{"age":{age},"plan":{plan},"code":{code}}}"#);
    let text = format!("\"{PRIVATE}\"");
    for (payload, says) in [
        (whole(&text, "\"Paid\"", "\"7\""), "invalid type, expected u8 at line 1 column"),
        (whole("98765432198", "\"Paid\"", "\"7\""), "invalid value, expected u8 at line 1 column"),
        (whole("36", &text, "\"7\""), "unknown variant, expected `Free` or `Paid` at line 1 column"),
        (whole("36", "\"Paid\"", &text), "its type refused it at line 1 column"),
        (whole("36", "\"Paid\"", &format!("\"panic {PRIVATE}\"")), "its `Deserialize` panicked"),
        (format!(r#"{{"age":36,{text}:1}}"#), "unknown field, expected one of `age`, `plan`, `code` at line 1 column"),
        (r#"{"age":36,"code":"7"}"#.to_owned(), "missing field `plan` at line 1 column"),
        (text.clone(), "invalid type, expected struct Joined at line 1 column"),
        (PRIVATE.to_owned(), "it is not JSON at line 1 column"),
        (r#"{"age":36,"code":"S3CRET"#.to_owned(), "it ends too early at line 1 column"),
    ] {
        let letter = letter_of(&payload).await;
        assert!(letter.error.contains(says), "{payload}: {}", letter.error);
        for private in ["S3CRET", "98765432198"] {
            assert!(!letter.error.contains(private), "{payload}: {}", letter.error);
            let logged = heard.text();
            let line = logged.lines().find(|line| line.contains(private) && line.contains(" evented::"));
            assert!(line.is_none(), "logged: {}", line.unwrap_or_default());
        }
    }
    assert!(heard.text().contains("goes to the dead letters"), "nothing was heard");
}
