//! The layout's version, the store's place, and what a server's settings let a stored delivery survive.

use std::time::Duration;

use redis::{Client, Cmd, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, Value, cmd};

use crate::{
    error::{StoreError, Written},
    id::{new_generation, new_store_name},
    time,
};

use super::{
    super::StoreUrl,
    link::Link,
    script::{OPEN, digits, list, text, tuple},
};

/// The layout that this code writes.
pub(super) const VERSION: u32 = 3;
/// The oldest code that may go on with it. That of layout 1 forgets at once what is finished, so that a push which was held up is
/// stored a second time, brings back handlers that were retired after it began, writes generations that it has rounded, and puts
/// what waits for an order key into no lane. Where it runs already, its scripts are refused by the server (`prelude.lua`). That of
/// layout 2 goes on: its leases name no session, so that nobody dies of them, and it leaves suspects to others.
pub(super) const MIN_COMPATIBLE: u32 = 2;

/// How long those who know an emptied store have to name it: somebody who only emits looks around each second.
const NAMED_WITHIN: Duration = Duration::from_secs(3);
/// How often to look whether they have.
const LOOK: Duration = Duration::from_millis(50);

/// Where the store is.
pub(super) struct Place {
    pub client: Client,
    pub name: String,
    /// The hash tag of all keys.
    pub prefix: String,
}

impl Place {
    /// Of a URL: `redis://localhost`, `redis://user:password@host:6379/1?prefix=shop`.
    pub(super) fn of(url: &StoreUrl) -> Result<Self, StoreError> {
        let (base, parameters) = url.parts();
        let mut prefix = "evented";
        for (name, value) in parameters {
            if name != "prefix" {
                return Err(url.refused("queue", "has a parameter that it does not know; it takes `prefix=..` alone"));
            }
            prefix = value;
        }
        if prefix.is_empty() || !prefix.chars().all(|c| c.is_ascii_alphanumeric() || "_.-:".contains(c)) {
            let why = "has a prefix that cannot be one of keys; write letters, digits and `_ . - :`";
            return Err(url.refused("queue", why));
        }
        let strange = "is not one of redis, like `redis://localhost:6379/0?prefix=shop`";
        let info = base.into_connection_info().map_err(|error| url.unread("queue", strange, &error))?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => format!("{}:{port}", host.to_ascii_lowercase()),
            other => other.to_string(),
        };
        let name = format!("redis:{place}/{}{{{prefix}}}", info.redis_settings().db());
        // With the protocol's third version a connection tells its end, and messages come beside answers.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))
            .map_err(|error| url.unread("queue", "cannot be used", &error))?;
        Ok(Self { client, name, prefix: prefix.to_owned() })
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.prefix)
    }
}

/// Lays the store out and answers its own name, or says why this code cannot go on with what is there.
///
/// A server that is empty while processes listen to the store was emptied under them: they know its name.
pub(super) async fn open(link: &Link, name: &str) -> Result<String, StoreError> {
    let (new_name, generation) = (new_store_name(), new_generation());
    let ask = async |asks: bool| {
        let fill = |command: &mut Cmd| {
            command.arg(VERSION).arg(MIN_COMPATIBLE).arg(&new_name).arg(generation).arg(u8::from(asks));
        };
        list(link.call(&OPEN, fill).await?)
    };
    let until = time::after(NAMED_WITHIN);
    let mut found = ask(true).await?;
    while found.is_empty() {
        time::sleep(LOOK).await;
        found = ask(time::now() < until).await?;
    }
    let [version, min_compatible, identity] = tuple(Value::Array(found))?;
    let (version, min_compatible): (u32, u32) = (digits(version)?, digits(min_compatible)?);
    if min_compatible > VERSION {
        return Err(StoreError::lasting(
            format!(
                "what evented keeps in {name} is of layout {version}, which needs code of layout {min_compatible} or newer; \
                 this release writes layout {VERSION}: update evented in this process"
            ),
            Written::Nothing,
        ));
    }
    text(identity)
}

/// What the server says of itself, in lines: empty where it may not be asked.
pub(super) struct Report(String);

impl Report {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim())
    }
}

/// Asks for the server's report.
pub(super) async fn ask_report(link: &Link) -> Result<Report, StoreError> {
    let report = match link.ask(&cmd("INFO")).await {
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(other) => text(other)?,
        Err(failure) if failure.is_refusal() => String::new(),
        Err(failure) => return Err(failure.into()),
    };
    Ok(Report(report))
}

/// Asks for the server's report, and refuses a server that is too old.
pub(super) async fn report(link: &Link) -> Result<Report, StoreError> {
    let report = ask_report(link).await?;
    let mut version = report.get("redis_version").unwrap_or_default().split('.').map(str::parse);
    if let (Some(Ok(major)), Some(Ok(minor))) = (version.next(), version.next())
        && (major, minor) < (6_u32, 2_u32)
    {
        let text = format!("this redis is of version {major}.{minor}; the store needs 6.2 or later");
        return Err(StoreError::lasting(text, Written::Nothing));
    }
    Ok(report)
}

/// What the server's settings say.
#[derive(Default)]
struct Settings {
    appendonly: Option<bool>,
    appendfsync: Option<String>,
    maxmemory: Option<u64>,
    policy: Option<String>,
}

/// What a stored delivery survives: <https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/>.
pub(super) async fn promise(link: &Link, name: &str, report: &Report) -> String {
    let settings = settings(link, report).await;
    let mut promise = match (settings.appendonly, settings.appendfsync.as_deref()) {
        (Some(true), Some("always")) => "appendfsync=always: survives a crash of the server and a power cut",
        (Some(true), Some("everysec")) => {
            "appendfsync=everysec: survives a restart of the server; at a crash of it, what was stored in the last two \
             seconds may be lost"
        }
        (Some(true), Some(_)) => {
            "appendfsync=no: survives a crash of the server's process; at a power cut, what the system had not written yet \
             is lost, some 30 seconds"
        }
        (Some(true), None) => {
            "appendonly=yes, with an appendfsync that is not known: at a crash of the server, what was stored last may be lost"
        }
        (Some(false), _) => {
            "appendonly=no: at a crash of the server, everything since its last snapshot is lost; set `appendonly yes` and \
             `appendfsync always` to lose nothing"
        }
        (None, _) => "what it survives is not known, since the server does not tell its settings",
    }
    .to_owned();
    if report.get("connected_slaves").is_some_and(|replicas| replicas != "0") {
        promise.push_str("; a failover to a replica may lose what that had not received yet");
    }
    if let (Some(policy), Some(1..)) = (&settings.policy, settings.maxmemory)
        && policy != "noeviction"
    {
        tracing::warn!(
            store = name,
            policy,
            "this redis evicts keys when it is full, and deliveries with them; set \
            `maxmemory-policy noeviction`, with which it refuses new ones instead"
        );
        promise.push_str("; evicts deliveries when it is full (maxmemory-policy=");
        promise.push_str(policy);
        promise.push(')');
    }
    promise
}

async fn settings(link: &Link, report: &Report) -> Settings {
    let config = async |name: &str| {
        let answer = link.ask(cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
        match answer {
            Value::Map(pairs) => text(pairs.into_iter().next()?.1).ok(),
            Value::Array(mut pair) if pair.len() == 2 => text(pair.pop()?).ok(),
            _ => None,
        }
    };
    // Where the settings may not be asked for, the report has most of them.
    let reported = |name| report.get(name).map(str::to_owned);
    let appendonly = match config("appendonly").await {
        Some(value) => Some(value == "yes"),
        None => report.get("aof_enabled").map(|value| value == "1"),
    };
    Settings {
        appendonly,
        appendfsync: config("appendfsync").await,
        maxmemory: config("maxmemory").await.or_else(|| reported("maxmemory")).and_then(|value| value.parse().ok()),
        policy: config("maxmemory-policy").await.or_else(|| reported("maxmemory_policy")),
    }
}
