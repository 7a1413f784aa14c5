//! What fails, and for how long.

use std::{str::FromStr, time::Duration};

use anyhow::{Context as _, bail};
use evented_tests::{
    clock,
    ground::{Engine, Ground, sqlite_path},
    proxy::Proxy,
};
use rusqlite::{Connection, TransactionBehavior};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::block_in_place;

use crate::load::{LEASE, Load};

/// Longer than a lease.
const STOPPED: Duration = LEASE.saturating_mul(2);
/// How long connections are refused.
const CUT: Duration = Duration::from_secs(3);
/// How long the network is silent.
const HUNG: Duration = Duration::from_secs(20);
/// How often a connection is reset, and after how many bytes: each time at another place of what is said.
const RESETS: usize = 30;
const RESET_BYTES: usize = 1_733;
/// Between two resets.
const RESET_PAUSE: Duration = Duration::from_millis(100);
/// Longer than evented waits for the lock of a SQLite file.
const LOCKED: Duration = Duration::from_secs(6);

/// A thing that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// All workers are killed, and others started.
    WorkerKilled,
    /// One worker is stopped for longer than a lease, and goes on as if nothing had been.
    WorkerStopped,
    /// The emitter is killed, and another started.
    EmitterKilled,
    /// The server is killed, and started again.
    ServerKilled,
    /// The server is stopped for longer than a lease, and goes on.
    ServerStopped,
    /// All connections end, and new ones are refused for a while.
    ConnectionsCut,
    /// Connections stay, and nothing passes in them.
    NetworkHung,
    /// Connections are reset in the middle of what is said.
    ConnectionsReset,
    /// Another process holds the write lock of the file.
    FileLocked,
}

/// When a fault was there.
pub struct Over {
    pub began: Duration,
    pub ended: Duration,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::WorkerKilled,
        Self::WorkerStopped,
        Self::EmitterKilled,
        Self::ServerKilled,
        Self::ServerStopped,
        Self::ConnectionsCut,
        Self::NetworkHung,
        Self::ConnectionsReset,
        Self::FileLocked,
    ];

    /// Those that an engine can meet.
    pub fn of(engine: Engine) -> Vec<Self> {
        let can = |fault: &Self| match fault {
            Self::WorkerKilled | Self::WorkerStopped | Self::EmitterKilled => true,
            Self::FileLocked => engine == Engine::Sqlite,
            _ => engine != Engine::Sqlite,
        };
        Self::ALL.into_iter().filter(can).collect()
    }

    /// Its name in the lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker_killed",
            Self::WorkerStopped => "worker_stopped",
            Self::EmitterKilled => "emitter_killed",
            Self::ServerKilled => "server_killed",
            Self::ServerStopped => "server_stopped",
            Self::ConnectionsCut => "connections_cut",
            Self::NetworkHung => "network_hung",
            Self::ConnectionsReset => "connections_reset",
            Self::FileLocked => "file_locked",
        }
    }

    /// Lets it happen, and end. A killed process is replaced after the end: that is part of going on.
    pub async fn strike(self, ground: &mut Ground, proxy: Option<&mut Proxy>, load: &mut Load) -> anyhow::Result<Over> {
        let began = clock::now();
        let network = proxy.context("there is no network to a file");
        match self {
            Self::WorkerKilled => {
                load.kill_workers().await?;
                let ended = clock::now();
                load.start_workers().await?;
                return Ok(Over { began, ended });
            }
            Self::EmitterKilled => {
                load.kill_emitter().await?;
                let ended = clock::now();
                load.start_emitter().await?;
                return Ok(Over { began, ended });
            }
            Self::WorkerStopped => {
                let pid =
                    load.workers.first().and_then(evented_tests::children::Child::pid).context("a worker runs")?;
                let pid = Pid::from_raw(pid.try_into()?).context("a process has a number")?;
                kill_process(pid, Signal::STOP)?;
                tokio::time::sleep(STOPPED).await;
                kill_process(pid, Signal::CONT)?;
            }
            Self::ServerKilled => block_in_place(|| ground.crash()),
            Self::ServerStopped => {
                block_in_place(|| ground.stop());
                tokio::time::sleep(STOPPED).await;
                block_in_place(|| ground.cont());
            }
            Self::ConnectionsCut => {
                let network = network?;
                network.cut().await;
                tokio::time::sleep(CUT).await;
                network.mend().await;
            }
            Self::NetworkHung => {
                let network = network?;
                network.hang().await;
                tokio::time::sleep(HUNG).await;
                network.mend().await;
            }
            Self::ConnectionsReset => {
                let network = network?;
                for number in 1..=RESETS {
                    network.reset_after(number * RESET_BYTES % 20_011);
                    tokio::time::sleep(RESET_PAUSE).await;
                }
                network.mend().await;
            }
            Self::FileLocked => {
                let mut conn = Connection::open(sqlite_path(load.url()))?;
                conn.busy_timeout(LOCKED)?;
                let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
                block_in_place(|| std::thread::sleep(LOCKED));
                tx.rollback()?;
            }
        }
        Ok(Over { began, ended: clock::now() })
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let Some(fault) = Self::ALL.into_iter().find(|fault| fault.name() == name) else {
            let all: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
            bail!("`{name}` is no fault; there are {}", all.join(", "));
        };
        Ok(fault)
    }
}
