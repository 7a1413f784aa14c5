//! A connection that is opened when it is needed and again after it broke, and what its failures mean.
//!
//! Everything has a limit: a server that accepts and never answers is given up like one that is gone.

use std::{
    sync::{
        Arc, Mutex as SyncMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, PushInfo, PushKind, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::sync::Mutex;

use crate::{
    error::{StoreError, Written},
    time::{self, Instant},
};

use super::script::Script;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(6);
/// A connection that was silent for so long is asked whether it lives, before something is sent that would be lost with it:
/// what stands between may have forgotten it.
const QUIET: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(2);

/// What tells messages and the end of a connection.
pub(super) type Told = Arc<dyn Fn(PushInfo) + Send + Sync>;

pub(super) struct Link {
    client: Client,
    /// The layout's key, by which a script finds all others.
    layout: Arc<str>,
    conn: Mutex<Option<Conn>>,
}

#[derive(Clone)]
struct Conn {
    line: MultiplexedConnection,
    /// Set when it ended or was given up: the next command takes a new one, so that what was never sent is no failure.
    ended: Arc<AtomicBool>,
    /// When it answered last.
    heard: Arc<SyncMutex<Instant>>,
}

impl Conn {
    fn heard(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something may be sent over it.
    async fn lives(&mut self) -> bool {
        if self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let quiet = self.heard().elapsed() > QUIET;
        if quiet {
            let question = redis::cmd("PING");
            let answer = time::within(PONG, question.query_async::<Value>(&mut self.line)).await;
            if !matches!(answer, Some(Ok(_))) {
                return false;
            }
            *self.heard() = time::now();
        }
        true
    }
}

impl Link {
    pub(super) fn new(client: Client, layout: Arc<str>) -> Self {
        Self { client, layout, conn: Mutex::new(None) }
    }

    /// Runs a script on the layout's key and the arguments that `fill` adds. A server that does not have it gets it, at once.
    pub(super) async fn call(&self, script: &Script, fill: impl Fn(&mut Cmd)) -> Result<Value, Failure> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg("1").arg(&*self.layout);
            fill(&mut command);
            command
        };
        match self.ask(&command("EVALSHA", script.hash())).await {
            Err(failure) if failure.lacks_script() => self.ask(&command("EVAL", script.code())).await,
            answer => answer,
        }
    }

    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Failure> {
        let mut conn = self.conn().await?;
        let Some(answer) = time::within(ANSWER, command.query_async(&mut conn.line)).await else {
            conn.ended.store(true, Ordering::Relaxed);
            return Err(Failure::unreachable(format!("redis did not answer within {ANSWER:?}"), Written::Unknown));
        };
        *conn.heard() = time::now();
        answer.map_err(|error| {
            let (failure, ends) = Failure::of(error);
            if ends {
                conn.ended.store(true, Ordering::Relaxed);
            }
            failure
        })
    }

    async fn conn(&self) -> Result<Conn, Failure> {
        let late = || Failure::unreachable(format!("redis was not reached within {CONNECT:?}"), Written::Nothing);
        // Whoever waits here waits for one that connects, and not in turn for each before it.
        let mut slot = time::within(CONNECT, self.conn.lock()).await.ok_or_else(late)?;
        if let Some(conn) = &mut *slot
            && conn.lives().await
        {
            return Ok(conn.clone());
        }
        *slot = None;
        let ended = Arc::new(AtomicBool::new(false));
        let told = {
            let ended = Arc::clone(&ended);
            move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    ended.store(true, Ordering::Relaxed);
                }
            }
        };
        let line = connect(&self.client, Arc::new(told)).await?;
        let heard = Arc::new(SyncMutex::new(time::now()));
        Ok(slot.insert(Conn { line, ended, heard }).clone())
    }
}

/// Opens a connection in the runtime of the caller.
pub(super) async fn connect(client: &Client, told: Told) -> Result<MultiplexedConnection, Failure> {
    // The limits are ours: those of the driver would not tell whether something was sent.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None).set_push_sender(
        move |push| -> Result<(), ()> {
            told(push);
            Ok(())
        },
    );
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    match time::within(CONNECT, connecting).await {
        Some(Ok(line)) => Ok(line),
        Some(Err(error)) => {
            let (mut failure, _) = Failure::of(error);
            failure.written = Written::Nothing;
            Err(failure)
        }
        None => Err(Failure::unreachable(format!("redis was not reached within {CONNECT:?}"), Written::Nothing)),
    }
}

/// Why a command failed. It can be told to several who waited for it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    text: String,
    transient: bool,
    written: Written,
    /// The server was silent for as long as we wait: whoever waits behind this need not find it out again.
    unreachable: bool,
    cause: Option<RedisError>,
}

/// What an error of the server is, by the word with which it begins or, up to Redis 6.2, which a script's error has within.
/// With each: whether it may pass, what was written, and whether the connection is to be given up with it.
const ERRORS: [(&str, bool, Written, bool, &str); 15] = [
    (
        "OOM",
        true,
        Written::Nothing,
        false,
        "redis is full: it has reached its `maxmemory`, and may evict nothing; give it more, or let the workers catch up",
    ),
    ("READONLY", true, Written::Nothing, true, "this redis is a replica and takes no writes"),
    ("LOADING", true, Written::Nothing, false, "redis is loading its data"),
    ("MASTERDOWN", true, Written::Nothing, true, "this redis is a replica that has lost its master"),
    ("CLUSTERDOWN", true, Written::Nothing, false, "the redis cluster is down"),
    ("TRYAGAIN", true, Written::Nothing, false, "the redis cluster is moving the store's slot"),
    ("MISCONF", true, Written::Nothing, false, "redis takes no writes, since it cannot save its data"),
    ("NOREPLICAS", true, Written::Nothing, false, "redis takes no writes, since it has too few replicas"),
    ("BUSY", true, Written::Nothing, false, "redis is busy with a script"),
    (
        "MOVED",
        false,
        Written::Nothing,
        true,
        "another node of the redis cluster has the store's slot; name that node in the URL",
    ),
    (
        "WRONGTYPE",
        false,
        Written::Unknown,
        false,
        "a key of the store holds something of another kind; give it a `?prefix=`",
    ),
    (
        "NOAUTH",
        false,
        Written::Nothing,
        true,
        "redis wants a password; write it into the URL, `redis://:password@host`",
    ),
    ("WRONGPASS", false, Written::Nothing, true, "redis refused the URL's user or password"),
    ("NOPERM", false, Written::Nothing, false, "redis does not permit this user what the store does"),
    ("max number of clients", true, Written::Nothing, true, "redis has as many clients as it takes"),
];

impl Failure {
    fn unreachable(text: String, written: Written) -> Self {
        Self { text, transient: true, written, unreachable: true, cause: None }
    }

    /// Where nothing was answered: the same for one whose command was not sent at all.
    pub(super) fn of_those_behind(&self) -> Option<Self> {
        self.unreachable.then(|| Self { written: Written::Nothing, ..self.clone() })
    }

    /// The server answered that it will not.
    pub(super) fn is_refusal(&self) -> bool {
        !self.transient
            && self
                .cause
                .as_ref()
                .is_some_and(|error| matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension))
    }

    /// The one place that decides what an error of redis means, and whether the connection is to be given up with it.
    fn of(error: RedisError) -> (Self, bool) {
        let said = error.to_string();
        let known = ERRORS.iter().find(|(word, ..)| error.code() == Some(word) || has_word(&said, word));
        let (text, transient, written, ends) = match (known, error.kind()) {
            (Some((_, transient, written, ends, text)), _) => (*text, *transient, *written, *ends),
            (None, ErrorKind::AuthenticationFailed) => ("redis refused the connection", false, Written::Nothing, true),
            (None, ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported) => {
                ("redis cannot be used so; it must be of version 6.2 or later", false, Written::Nothing, true)
            }
            (None, ErrorKind::Server(ServerErrorKind::NoScript)) => {
                ("redis lacks a script", true, Written::Nothing, false)
            }
            (None, ErrorKind::Server(_) | ErrorKind::Extension) => {
                ("redis refused the command", false, Written::Unknown, false)
            }
            // The connection broke, or what came over it makes no sense.
            (None, _) => ("the connection to redis failed", true, Written::Unknown, true),
        };
        (Self { text: text.to_owned(), transient, written, unreachable: false, cause: Some(error) }, ends)
    }

    fn lacks_script(&self) -> bool {
        self.cause.as_ref().is_some_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let new = if failure.transient { Self::transient } else { Self::lasting };
        let error = new(failure.text, failure.written);
        match failure.cause {
            Some(cause) => error.because(quoting_nothing(&cause)),
            None => error,
        }
    }
}

/// What a server says of a command that it does not know ends with the command's arguments: payloads may be among them.
fn quoting_nothing(cause: &RedisError) -> String {
    let said = cause.to_string();
    match said.find("with args beginning with") {
        Some(end) => said[..end].trim_end_matches([' ', ',']).to_owned(),
        None => said,
    }
}
