//! What is said: no text of ours shows a secret or a payload, and an error names the place, the act and the cure.

use evented::{
    prelude::*,
    store::{StoreUrl, open_outbox, open_queue},
};
use evented_tests::heard::heard;
use serde::{Deserialize, Serialize};

mod act;
mod payload;
mod red;
mod stops;

#[event]
#[derive(Serialize, Deserialize)]
struct Told;

#[handler(Told, background)]
async fn tell(_event: Told) {}

/// What is shown nowhere. With characters in it that end a password for some reader.
const SECRETS: [&str; 10] = [
    "s3cret",
    "s3cret?pa",
    "s3cret/pa",
    "s3cret#pa",
    "s3cret@pa",
    "s3cret%40pa",
    "s3cret:pa",
    "s3cret&pa=pa",
    "s3cret pa",
    "pa?host=s3cret&port=s3cret",
];

/// URLs with a secret, each where a person has written one.
fn urls(secret: &str) -> Vec<String> {
    let bases =
        ["redis", "rediss", "postgres", "postgresql", "mysql", "mariadb", "sqlite", "amqp", "mongodb", "redis+unix"];
    let mut urls = Vec::new();
    for scheme in bases {
        urls.extend([
            format!("{scheme}://:{secret}@localhost:1/shop"),
            format!("{scheme}://ada:{secret}@localhost:1/shop"),
            format!("{scheme}://{secret}@localhost:1/shop"),
            format!("{scheme}://ada:{secret}"),
            format!("{scheme}://ada:{secret}@"),
            format!("{scheme}://localhost:1/shop?password={secret}"),
            format!("{scheme}://localhost:1/shop?sslmode=disable&sslpassword={secret}&listen=off"),
            format!("{scheme}://localhost:1/shop?options=-c%20x={secret}"),
            format!("{scheme}://localhost:1/shop?user={secret}"),
            format!("{scheme}://localhost:1/shop?token={secret}"),
            format!("{scheme}://localhost:1/shop?prefix={{{secret}}}"),
            format!("{scheme}://localhost:1/shop#{secret}"),
            format!("{scheme}:ada:{secret}@localhost"),
            format!("{scheme}:host=localhost password={secret}"),
        ]);
    }
    urls.extend([
        format!("ada:{secret}@localhost:5432/shop"),
        format!("host=localhost port=1 user=ada password={secret} dbname=shop"),
        format!("password='{secret}' host=/run/postgresql"),
        format!("jdbc:postgresql://localhost/shop?password={secret}"),
        format!("unix:///run/redis.sock?db=1&pass={secret}"),
        format!(" redis://:{secret}@localhost:1"),
        secret.to_owned(),
    ]);
    urls
}

#[tokio::test]
async fn a_secret_of_a_url_is_shown_nowhere() {
    let heard = heard();
    let folder = tempfile::tempdir().unwrap();
    let has_secret = |text: &str| text.contains("s3cret");
    for url in SECRETS.iter().flat_map(|secret| urls(secret)) {
        let shown = StoreUrl::from(&url);
        assert!(!has_secret(&format!("{shown} {shown:?}")), "{url} is shown as {shown}");
        let run = || evented::run().install(false).module(module_path!());
        let told = format!("{:?}", run().queue(&url));
        assert!(!has_secret(&told), "{url}: Run is {told}");
        for opened in [open_queue(&url).await.map(drop), open_outbox(&url).await.map(drop)] {
            let Err(error) = opened else { panic!("{url} was opened") };
            assert!(!has_secret(&format!("{error} {error:?}")), "{url}: {error:?}");
        }
        let error = run().queue(&url).await.expect_err("nothing is there");
        assert!(!has_secret(&format!("{error} {error:?}")), "{url}: {error:?}");
    }
    drop(folder);
    let logged = heard.text();
    let line = logged.lines().find(|line| has_secret(line));
    assert!(line.is_none(), "logged: {}", line.unwrap_or_default());
    assert!(logged.contains("not heeded"), "nothing was heard: {logged}");
}

#[test]
fn a_url_shows_where_the_store_is() {
    for (url, shown) in [
        ("sqlite:evented.db", "sqlite:evented.db"),
        ("sqlite:///var/lib/shop/queue.db?synchronous=normal", "sqlite:///var/lib/shop/queue.db?synchronous=normal"),
        ("sqlite::memory:", "sqlite::memory:"),
        ("redis://ada:s3cret@db.internal:6379/2?prefix=shop", "redis://..@db.internal:6379/2?prefix=shop"),
        ("redis://:p@ss@[::1]:6379/2", "redis://..@[::1]:6379/2"),
        ("postgres://ada@localhost/shop?sslmode=require&user=x&y=z", "postgres://..@localhost/shop?sslmode=require&.."),
        ("postgres:///shop?host=/run/postgresql", "postgres:///shop?host=/run/postgresql"),
        ("postgers://localhost/shop", "postgers://localhost/shop"),
        ("redis://:s3cret?p@localhost", "redis://.."),
        ("redis://:s3cret", "redis://.."),
        ("evented.db", "evented.db"),
        ("/var/lib/evented.db", "/var/lib/evented.db"),
        ("host=localhost password=s3cret", ".."),
        ("s3cret", ".."),
        ("", ".."),
    ] {
        assert_eq!(StoreUrl::from(url).to_string(), shown, "{url}");
    }
}

#[tokio::test]
async fn a_password_that_is_not_encoded_is_refused_with_how_to_write_it() {
    for url in ["redis://:s3cret/pa@localhost:1", "postgres://ada:s3cret?pa@localhost:1/shop"] {
        let Err(error) = open_queue(url).await else { panic!("{url} was opened") };
        assert!(error.to_string().contains("in a password, write `%2F` for `/`"), "{url}: {error}");
    }
}
