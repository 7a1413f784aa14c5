//! The events, good ones and poison, and the process that dies of the poison.

use std::{
    io,
    path::Path,
    process::abort,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::bail;
use evented::{App, prelude::*};
use evented_tests::children::until_dismissed;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::notes::{Notes, Step};

/// The number of the poison; good events have others.
pub const POISON: u64 = 0;
/// How long one hangs that nobody kills.
const FOR_EVER: Duration = Duration::from_hours(1);

/// How a poison kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its handler aborts the process.
    Handler,
    /// Its `Deserialize` does.
    Decoder,
    /// Its handler never returns, and the process is killed by who looks after it.
    Hang,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Handler, Self::Decoder, Self::Hang];

    /// Its name on the command line and in the lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Decoder => "decoder",
            Self::Hang => "hang",
        }
    }

    /// Emits the poison.
    pub async fn emit(self, app: &App) -> evented::Result<()> {
        let effect = match self {
            Self::Handler => Effect::KillsHandler,
            Self::Decoder => Effect::KillsDecoder,
            Self::Hang => return app.emit(Stuck { number: POISON }).await,
        };
        app.emit(Swallowed { number: POISON, work: Duration::ZERO, effect }).await
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match Self::ALL.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(kind),
            None => bail!("`{name}` is no poison; there are `handler`, `decoder`, `hang` and `all`"),
        }
    }
}

/// Good, or the poison of a handler or of a decoder: it is the same handler's delivery as its neighbours.
#[event]
#[derive(Serialize, Deserialize)]
#[serde(from = "Read")]
pub struct Swallowed {
    pub number: u64,
    /// How long its handler takes.
    pub work: Duration,
    pub effect: Effect,
}

/// What an event does to the process that handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    None,
    KillsHandler,
    KillsDecoder,
}

#[derive(Deserialize)]
struct Read {
    number: u64,
    work: Duration,
    effect: Effect,
}

/// Whether this process is one that may die: not the one that looks after the others, should it ever decode the poison.
static MORTAL: AtomicBool = AtomicBool::new(false);

impl From<Read> for Swallowed {
    fn from(Read { number, work, effect }: Read) -> Self {
        if effect == Effect::KillsDecoder && MORTAL.load(Relaxed) {
            abort();
        }
        Self { number, work, effect }
    }
}

/// The poison that hangs: in a plain function, which nobody can interrupt.
#[event]
#[derive(Serialize, Deserialize)]
struct Stuck {
    number: u64,
}

#[handler(Swallowed, background)]
async fn digest(event: Swallowed, notes: State<Notes>) -> io::Result<()> {
    notes.note(Step::Began, event.number)?;
    if event.effect == Effect::KillsHandler && MORTAL.load(Relaxed) {
        abort();
    }
    sleep(event.work).await;
    notes.note(Step::Ended, event.number)
}

#[handler(Stuck, background)]
fn stay(event: Stuck, notes: State<Notes>) -> io::Result<()> {
    notes.note(Step::Began, event.number)?;
    loop {
        thread::sleep(FOR_EVER);
    }
}

/// The child: a worker.
pub async fn run(args: &[String]) -> anyhow::Result<()> {
    let [url, folder, lease] = args else { bail!("a child is told its store, its folder and the lease") };
    MORTAL.store(true, Relaxed);
    let lease = Duration::from_millis(lease.parse()?);
    let notes = Notes::open(Path::new(folder))?;
    let app = evented::run().role(Role::Work).state(notes).queue(url).lease(lease).await?;
    println!("ready");
    until_dismissed().await;
    app.stop().await;
    Ok(())
}
