//! The load: a process that emits, and two that work, all of which can be killed and replaced.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use evented::prelude::*;
use evented_tests::children::{Child, until_dismissed};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinSet};

use crate::book::{Book, Notes};

/// Short, so that what a killed worker held runs again soon.
pub const LEASE: Duration = Duration::from_secs(2);
/// How many workers there are.
const WORKERS: usize = 2;
/// How many emits of the emitter are under way at once.
const AT_ONCE: usize = 4;
/// Between two emits of one of these.
const PAUSE: Duration = Duration::from_millis(1);
/// After an emit that failed.
const TROUBLE: Duration = Duration::from_millis(50);
/// How long a handler takes: some are in flight whenever something fails.
const WORK: Duration = Duration::from_millis(1);
/// The numbers of one emitter's events begin where no other's come to.
const NUMBERS: u64 = 1 << 32;

#[event]
#[derive(Serialize, Deserialize)]
struct Served {
    number: u64,
}

#[handler(Served, background)]
async fn serve(event: Served, notes: State<Notes>) -> std::io::Result<()> {
    tokio::time::sleep(WORK).await;
    notes.note(event.number)
}

/// The running children.
pub struct Load {
    url: String,
    folder: PathBuf,
    emitter: Option<Child>,
    emitters: u64,
    later: Duration,
    pub workers: Vec<Child>,
}

impl Load {
    /// Each second event is due so much `later`: whenever something fails, many wait in the store.
    pub async fn start(url: &str, folder: &Path, later: Duration) -> anyhow::Result<Self> {
        let (url, folder) = (url.into(), folder.into());
        let mut load = Self { url, folder, emitter: None, emitters: 0, later, workers: Vec::new() };
        load.start_workers().await?;
        load.start_emitter().await?;
        Ok(load)
    }

    /// The URL by which the children reach their store.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn start_workers(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.display().to_string();
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(Child::start(&["work", &self.url, &folder])?);
        }
        for worker in &mut workers {
            worker.line().await?;
        }
        self.workers = workers;
        Ok(())
    }

    pub async fn start_emitter(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.display().to_string();
        let first = (self.emitters * NUMBERS).to_string();
        let later = self.later.as_millis().to_string();
        let mut emitter = Child::start(&["emit", &self.url, &folder, &first, &later])?;
        emitter.line().await?;
        self.emitters += 1;
        self.emitter = Some(emitter);
        Ok(())
    }

    pub async fn kill_workers(&mut self) -> anyhow::Result<()> {
        for worker in self.workers.drain(..) {
            worker.kill().await?;
        }
        Ok(())
    }

    pub async fn kill_emitter(&mut self) -> anyhow::Result<()> {
        self.emitter.take().context("an emitter runs")?.kill().await
    }

    pub async fn end_emitters(&mut self) -> anyhow::Result<()> {
        self.emitter.take().context("an emitter runs")?.end().await.context("the emitter")
    }

    pub async fn end_workers(&mut self) -> anyhow::Result<()> {
        for worker in self.workers.drain(..) {
            worker.end().await.context("a worker")?;
        }
        Ok(())
    }
}

/// The child.
pub async fn run(args: &[String]) -> anyhow::Result<()> {
    let [role, url, folder, rest @ ..] = args else { bail!("a child is told what it is, its store and its folder") };
    let book = Book::of(Path::new(folder));
    let run = evented::run().state(book.notes()?).queue(url).lease(LEASE);
    match (role.as_str(), rest) {
        ("work", []) => {
            let app = run.role(Role::Work).await?;
            println!("ready");
            until_dismissed().await;
            app.stop().await;
        }
        ("emit", [first, later]) => {
            let app = run.role(Role::Emit).await?;
            println!("ready");
            emit_until_dismissed(first.parse()?, Duration::from_millis(later.parse()?), &book.receipts()?).await?;
            app.stop().await;
        }
        _ => bail!("a child works or emits"),
    }
    Ok(())
}

async fn emit_until_dismissed(first: u64, later: Duration, receipts: &Notes) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(first));
    let (dismissed, goes_on) = watch::channel(());
    let mut emitting = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (next, goes_on, receipts) = (Arc::clone(&next), goes_on.clone(), receipts.clone());
        emitting.spawn(async move {
            while goes_on.has_changed().is_ok() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                // What failed may be stored or not: its number is not used again, and it was promised to nobody.
                let later = if number % 2 == 1 { later } else { Duration::ZERO };
                let pause = match evented::emit(Served { number }).after(later).await {
                    Ok(()) => {
                        receipts.note(number)?;
                        PAUSE
                    }
                    Err(error) => {
                        tracing::debug!(%error, "an emit failed");
                        TROUBLE
                    }
                };
                tokio::time::sleep(pause).await;
            }
            anyhow::Ok(())
        });
    }
    until_dismissed().await;
    drop(dismissed);
    for ended in emitting.join_all().await {
        ended?;
    }
    Ok(())
}
