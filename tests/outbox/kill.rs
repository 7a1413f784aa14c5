//! The load, and what is done to it: processes are killed and replaced, stopped for longer than a lease, and the server with
//! them where there is one. Then all that is left is worked off, and judged.

use std::{mem::replace, str::FromStr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use evented::{App, Role};
use evented_tests::{children::Child, clock, dice::Dice, figures::Line};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    task::block_in_place,
    time::{sleep, timeout},
};

use crate::{
    child::{LEASE, Task},
    judge::judge,
    load::Load,
};

const WRITERS: usize = 3;
const WORKERS: usize = 3;
/// The load goes on until there were so many.
const KILLS_MIN: u64 = 10;
/// Of so many blows, one stops a process and does not kill it, and one meets the server.
const BLOWS: u64 = 10;
/// How many blows come in the time that was asked for, about.
const BLOWS_WANTED: u32 = 24;
/// How many processes one blow kills, at the most.
const AT_ONCE: u64 = 3;
/// The orders of one writer begin where no other's come to.
const NUMBERS: i64 = 1 << 32;
/// How long it may take to work off what is left.
const DEADLINE: Duration = Duration::from_mins(3);

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seconds: Duration,
    pub seed: u64,
    pub kill_server: bool,
    pub queue: Queue,
}

/// Where the queue is.
#[derive(Clone, Copy)]
pub enum Queue {
    /// A file of SQLite's.
    Elsewhere,
    /// The outbox's own database.
    Beside,
}

impl FromStr for Queue {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match name {
            "elsewhere" => Ok(Self::Elsewhere),
            "beside" => Ok(Self::Beside),
            _ => bail!("`{name}` is no place of a queue; there are `elsewhere` and `beside`"),
        }
    }
}

/// A running child, and what it was told.
struct Running {
    task: Task,
    child: Child,
}

impl Running {
    fn start(task: Task) -> anyhow::Result<Self> {
        let child = Child::start(&[&serde_json::to_string(&task)?])?;
        Ok(Self { task, child })
    }
}

fn one_of<'a>(running: &'a mut [Running], dice: &mut Dice) -> &'a mut Running {
    let count = running.len().try_into().expect("they are few");
    &mut running[usize::try_from(dice.below(count)).expect("they are few")]
}

/// Whether nothing was lost, no ghost, and written once.
pub async fn measure<Db: Load>(plan: Plan) -> anyhow::Result<bool> {
    let Some(mut place) = block_in_place(Db::place) else { return Ok(true) };
    let folder = TempDir::new()?;
    let url = block_in_place(|| Db::database(&place));
    let pool = Db::pool(&url).await?;
    Db::make_tables(&pool).await?;
    let queue = match plan.queue {
        Queue::Elsewhere => format!("sqlite:{}", folder.path().join("evented.db").display()),
        Queue::Beside => url.clone(),
    };
    let task = Task {
        store: Db::STORE.to_owned(),
        url,
        queue,
        folder: folder.path().to_owned(),
        seed: plan.seed,
        first: None,
    };
    let kills = trouble::<Db>(plan, &task, &mut place).await?;

    let (app, _) = task.start::<Db>(Role::Work).await?;
    timeout(DEADLINE, work_off(&app)).await.context("what is left is not worked off")??;
    app.stop().await;

    let verdict = judge::<Db>(&pool, folder.path()).await?;
    verdict.explain(plan.seed);
    Line::new("outbox", Db::STORE)
        .with("committed", verdict.committed)
        .with("rolled_back", verdict.rolled_back)
        .with("kills", kills)
        .with("lost", verdict.lost.len())
        .with("ghosts", verdict.ghosts.len())
        .with("effects_twice", verdict.effects_twice.len())
        .with("handled_twice_without_tx", verdict.handled_twice)
        .with("seed", plan.seed)
        .print(true);
    Ok(verdict.is_well())
}

/// Works off what is left. A delivery in whose hands too many workers died is a dead letter, and no loss: it is asked for
/// once more.
async fn work_off(app: &App) -> anyhow::Result<()> {
    app.until_idle().await?;
    for letter in app.dead_letters().await? {
        eprintln!("{} {} is a dead letter and is run again: {}", letter.handler, letter.id, letter.error);
        app.requeue(letter.id).await?;
    }
    app.until_idle().await?;
    if let Some(letter) = app.dead_letters().await?.first() {
        bail!("{} {} is a dead letter, though no worker dies any more: {}", letter.handler, letter.id, letter.error);
    }
    Ok(())
}

/// The load while something is killed; how often something was.
async fn trouble<Db: Load>(plan: Plan, task: &Task, place: &mut Db::Place) -> anyhow::Result<u64> {
    let mut writers = 0;
    let mut numbered = |task: &Task| {
        writers += 1;
        Task { first: Some(writers * NUMBERS), ..task.clone() }
    };
    let mut running = Vec::new();
    for _ in 0..WORKERS {
        running.push(Running::start(task.clone())?);
    }
    for _ in 0..WRITERS {
        running.push(Running::start(numbered(task))?);
    }
    for running in &mut running {
        running.child.line().await?;
    }

    let mut dice = Dice::new(plan.seed, 0);
    let mut kills = 0;
    let began = clock::now();
    while clock::since(began) < plan.seconds || kills < KILLS_MIN {
        sleep(dice.time(plan.seconds * 2 / BLOWS_WANTED)).await;
        let blow = dice.below(BLOWS);
        if blow == 0 && plan.kill_server {
            ensure!(block_in_place(|| Db::restart(place)), "`{}` has no server to be killed", Db::STORE);
            kills += 1;
            continue;
        }
        if blow == 1 {
            // Longer than a lease: what it does afterwards, another has taken over.
            let pid = one_of(&mut running, &mut dice).child.pid().context("a child ended by itself")?;
            let pid = Pid::from_raw(pid.try_into()?).context("a process has a number")?;
            kill_process(pid, Signal::STOP)?;
            sleep(LEASE * 3 / 2).await;
            kill_process(pid, Signal::CONT)?;
            continue;
        }
        for _ in 0..=dice.below(AT_ONCE) {
            let hit = one_of(&mut running, &mut dice);
            let next = if hit.task.first.is_some() { numbered(task) } else { task.clone() };
            // It is not waited for: the next blow may meet it while it starts.
            let next = Running::start(next)?;
            replace(hit, next).child.kill().await?;
            kills += 1;
        }
    }

    let (writing, working): (Vec<_>, Vec<_>) = running.into_iter().partition(|running| running.task.first.is_some());
    for writer in writing {
        writer.child.end().await.context("a writer")?;
    }
    for worker in working {
        worker.child.kill().await?;
        kills += 1;
    }
    Ok(kills)
}
