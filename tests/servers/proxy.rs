//! The proxy's ways to fail, in front of a server that sends back what it is sent.

use std::{io::ErrorKind, time::Duration};

use evented_tests::{DEADLINE, proxy::Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// How long a silence is listened to.
const SILENCE: Duration = Duration::from_millis(200);

/// A proxy in front of an echo.
async fn proxy() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has one");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                // It fails for the connections that the proxy resets.
                let _end = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Proxy::start(address).await
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("the proxy accepts")
}

/// What comes back.
async fn hear(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut text = [0; 64];
    let bytes = timeout(DEADLINE, stream.read(&mut text)).await.expect("something comes")?;
    Ok(String::from_utf8_lossy(&text[..bytes]).into_owned())
}

async fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("it can be sent");
}

async fn assert_echo(stream: &mut TcpStream, text: &str) {
    say(stream, text).await;
    assert_eq!(hear(stream).await.expect("the connection lives"), text);
}

async fn assert_silent(stream: &mut TcpStream) {
    let heard = timeout(SILENCE, stream.read(&mut [0; 64])).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[tokio::test]
async fn forwards_both_directions_and_their_ends() {
    let proxy = proxy().await;
    let mut stream = connect(&proxy).await;
    assert_echo(&mut stream, "one").await;
    assert_echo(&mut stream, "two").await;
    say(&mut stream, "last").await;
    stream.shutdown().await.expect("a side can be ended");
    let mut rest = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut rest)).await.expect("it ends").expect("it ends well");
    assert_eq!(rest, "last");
}

#[tokio::test]
async fn a_cut_closes_connections_and_refuses_new_ones_until_it_is_mended() {
    let mut proxy = proxy().await;
    let mut stream = connect(&proxy).await;
    assert_echo(&mut stream, "before").await;
    proxy.cut().await;
    assert!(matches!(hear(&mut stream).await.as_deref(), Ok("") | Err(_)), "the connection is closed");
    let refused = TcpStream::connect(proxy.address()).await.expect_err("new ones are refused");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.mend().await;
    assert_echo(&mut connect(&proxy).await, "after").await;
}

#[tokio::test]
async fn a_hanging_network_keeps_connections_and_is_silent_until_it_is_mended() {
    let mut proxy = proxy().await;
    let mut old = connect(&proxy).await;
    assert_echo(&mut old, "before").await;
    proxy.hang().await;
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        say(stream, "held").await;
        assert_silent(stream).await;
    }
    proxy.mend().await;
    for stream in [&mut old, &mut new] {
        assert_eq!(hear(stream).await.expect("the connection lives"), "held");
    }
}

#[tokio::test]
async fn behind_a_hanging_network_nobody_hears_that_a_server_has_died() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let mut proxy = Proxy::start(listener.local_addr().expect("it has one")).await;
    let mut client = connect(&proxy).await;
    let (server, _) = listener.accept().await.expect("the proxy connects");
    proxy.hang().await;
    drop(server);
    assert_silent(&mut client).await;
    proxy.mend().await;
    assert!(matches!(hear(&mut client).await.as_deref(), Ok("") | Err(_)), "now it does");
}

#[tokio::test]
async fn a_delay_holds_each_chunk_in_both_directions() {
    let mut proxy = proxy().await;
    let mut stream = connect(&proxy).await;
    assert_echo(&mut stream, "at once").await;
    let delay = Duration::from_millis(100);
    proxy.delay(delay);
    let began = Instant::now();
    assert_echo(&mut stream, "slowly").await;
    assert!(began.elapsed() >= 2 * delay, "there and back: {:?}", began.elapsed());
    // Longer than the test waits.
    proxy.delay(2 * DEADLINE);
    say(&mut stream, "held").await;
    assert_silent(&mut stream).await;
    proxy.mend().await;
    assert_eq!(hear(&mut stream).await.expect("the connection lives"), "held");
}

#[tokio::test]
async fn a_reset_comes_in_the_place_of_the_byte_after_the_last_that_may_pass() {
    let proxy = proxy().await;
    let (mut hit, mut spared) = (connect(&proxy).await, connect(&proxy).await);
    assert_echo(&mut spared, "before").await;
    // The request passes, and three bytes of the answer.
    proxy.reset_after("request".len() + 3);
    say(&mut hit, "request").await;
    assert_eq!(hear(&mut hit).await.expect("these bytes may pass"), "req");
    let reset = hear(&mut hit).await.expect_err("the connection is reset");
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    assert_echo(&mut spared, "after").await;
    assert_echo(&mut connect(&proxy).await, "a new one").await;
}

#[tokio::test]
async fn a_server_that_is_down_shows_as_a_connection_that_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let proxy = Proxy::start(listener.local_addr().expect("it has one")).await;
    drop(listener);
    let mut stream = connect(&proxy).await;
    assert!(matches!(hear(&mut stream).await.as_deref(), Ok("") | Err(_)));
}
