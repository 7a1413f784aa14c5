//! How the store goes away for a while.

use std::{str::FromStr, thread, time::Duration};

use anyhow::bail;
use evented_tests::{
    clock,
    ground::{Ground, sqlite_path},
    proxy::Proxy,
};
use rusqlite::{Connection, TransactionBehavior};
use tokio::{task::spawn_blocking, time::sleep};

/// How long another writer may keep us from the file's lock, before we hold it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of the connections to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// They end, and new ones are refused.
    Cut,
    /// They stay, and nothing passes in them.
    Hang,
}

impl FromStr for By {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match name {
            "cut" => Ok(Self::Cut),
            "hang" => Ok(Self::Hang),
            _ => bail!("`{name}` is no outage; there are `cut` and `hang`"),
        }
    }
}

/// The worker's way to its store.
pub struct Way {
    /// The URL by which the worker reaches it.
    pub url: String,
    /// The URL by which it is reached during an outage of a server, too.
    pub direct: String,
    proxy: Option<(Proxy, By)>,
}

impl Way {
    /// To a new store of a ground.
    pub async fn to(ground: &Ground, by: By) -> Self {
        let direct = ground.store();
        let Some(port) = ground.port() else { return Self { url: direct.clone(), direct, proxy: None } };
        let server = format!("127.0.0.1:{port}");
        let proxy = Proxy::start(&server).await;
        Self { url: direct.replace(&server, &proxy.address().to_string()), direct, proxy: Some((proxy, by)) }
    }

    /// The outage, by name.
    pub fn outage(&self) -> &'static str {
        match self.proxy {
            None => "lock",
            Some((_, By::Cut)) => "cut",
            Some((_, By::Hang)) => "hang",
        }
    }

    /// The store is away for so long; the moment of its return.
    pub async fn away(&mut self, time: Duration) -> anyhow::Result<Duration> {
        let Some((proxy, by)) = &mut self.proxy else {
            let path = sqlite_path(&self.url).to_owned();
            return spawn_blocking(move || lock(&path, time)).await?;
        };
        match by {
            By::Cut => proxy.cut().await,
            By::Hang => proxy.hang().await,
        }
        sleep(time).await;
        proxy.mend().await;
        Ok(clock::now())
    }
}

/// Holds the file's write lock, as another program might.
fn lock(path: &str, time: Duration) -> anyhow::Result<Duration> {
    let mut conn = Connection::open(path)?;
    conn.busy_timeout(PATIENCE)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    thread::sleep(time);
    tx.rollback()?;
    Ok(clock::now())
}
