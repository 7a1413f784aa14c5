//! One seed: two workers that are started again when they die, good deliveries, and one poison among them, until it is a dead
//! letter and everything else has run.

use std::{collections::HashSet, mem::replace, os::unix::process::ExitStatusExt as _, path::Path, time::Duration};

use evented::{App, Role, store::DeadLetter};
use evented_tests::{children::Child, clock, dice::Dice, figures::per_second, ground::Ground};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    child::{Kind, POISON},
    notes::{Note, Notes, Reader, Step},
    supply::Supply,
};

const WORKERS: usize = 2;
/// Between two looks at the workers and at the notes.
const LOOK: Duration = Duration::from_millis(10);
/// Between two looks at the dead letters.
const LETTERS_LOOK: Duration = Duration::from_millis(100);
/// How long the workers come to their pace, and for how long their rate is taken before there is a poison.
const PACE: Duration = Duration::from_secs(1);
const ALONE: Duration = Duration::from_secs(2);
/// The poison comes so long after that, at the most.
const LATER: Duration = Duration::from_millis(300);
/// In so many leases it comes to its end, and so does the rest after it.
const LEASES_MAX: u32 = 60;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Plan {
    pub kind: Kind,
    pub seed: u64,
    pub lease: Duration,
}

/// What became of it.
pub struct Ended {
    /// How many processes died.
    pub deaths: usize,
    /// How many dead letters the poison is.
    pub dead_letters: usize,
    /// How many good deliveries are dead letters.
    pub innocents_dead: usize,
    /// How many good deliveries ended in a second, at the lowest, between deaths.
    pub others_per_second: f64,
    /// The same without a poison.
    pub rate_alone: f64,
    /// How many deliveries are left that were not worked off in time, though the poison was a dead letter.
    pub left: u64,
}

/// The workers under their supervisor, and what is known of them.
struct Scene<'a> {
    plan: Plan,
    url: String,
    folder: &'a Path,
    workers: Vec<Child>,
    supply: Supply,
    reader: Reader,
    good_ended: HashSet<u64>,
    /// When each good delivery ended first.
    ends: Vec<Duration>,
    deaths: Vec<Duration>,
    /// The process in which the poison hangs, and since when.
    hangs: Option<(u32, Duration)>,
}

/// Lets it happen.
pub async fn run(ground: &Ground, plan: Plan) -> anyhow::Result<Ended> {
    let folder = TempDir::new()?;
    let url = ground.store();
    let notes = Notes::open(folder.path())?;
    let app = evented::run().install(false).role(Role::Emit).state(notes).queue(&url).await?;
    let mut scene = Scene::start(plan, url, folder.path(), &app).await?;

    scene.go_on(PACE).await?;
    let alone = clock::now();
    scene.go_on(ALONE).await?;
    let rate_alone = scene.rate(alone, clock::now());
    scene.go_on(Dice::new(plan.seed, POISON).time(LATER)).await?;

    plan.kind.emit(&app).await?;
    let emitted = clock::now();
    let mut buried = 0;
    while buried == 0 && clock::since(emitted) < plan.lease * LEASES_MAX {
        scene.go_on(LETTERS_LOOK).await?;
        buried = poisons(&app.dead_letters().await?);
    }
    let others_per_second = scene.lowest_rate(emitted, clock::now());
    // Where the poison is not buried it kills on, and nothing comes to an end.
    let left = if buried == 0 { 0 } else { work_off(&app, &mut scene).await? };

    let letters = app.dead_letters().await?;
    let dead_letters = poisons(&letters);
    let deaths = scene.deaths.len();
    scene.end().await?;
    app.stop().await;
    Ok(Ended {
        deaths,
        dead_letters,
        innocents_dead: letters.len() - dead_letters,
        others_per_second,
        rate_alone,
        left,
    })
}

/// How many of these are the poison.
fn poisons(letters: &[DeadLetter]) -> usize {
    #[derive(Deserialize)]
    struct Numbered {
        number: u64,
    }
    let number = |letter: &DeadLetter| serde_json::from_slice::<Numbered>(&letter.payload).map(|read| read.number);
    letters.iter().filter(|letter| number(letter).is_ok_and(|number| number == POISON)).count()
}

/// Waits until nothing is left; what is left at the end of patience.
async fn work_off(app: &App, scene: &mut Scene<'_>) -> anyhow::Result<u64> {
    scene.supply.end();
    let began = clock::now();
    loop {
        scene.go_on(LETTERS_LOOK).await?;
        let has_ended = scene.supply.has_ended();
        let left = app.counts().await?.iter().map(|count| count.waiting + count.running).sum();
        if has_ended && left == 0 || clock::since(began) > scene.plan.lease * LEASES_MAX {
            return Ok(left);
        }
    }
}

impl<'a> Scene<'a> {
    async fn start(plan: Plan, url: String, folder: &'a Path, app: &App) -> anyhow::Result<Self> {
        let reader = Reader::open(folder)?;
        let supply = Supply::start(app.clone(), plan.seed);
        let (workers, good_ended, ends, deaths) = (Vec::new(), HashSet::new(), Vec::new(), Vec::new());
        let mut scene = Self { plan, url, folder, workers, supply, reader, good_ended, ends, deaths, hangs: None };
        for _ in 0..WORKERS {
            scene.workers.push(scene.worker()?);
        }
        for worker in &mut scene.workers {
            worker.line().await?;
        }
        Ok(scene)
    }

    fn worker(&self) -> anyhow::Result<Child> {
        let lease = self.plan.lease.as_millis().to_string();
        Child::start(&[&self.url, &self.folder.display().to_string(), &lease])
    }

    /// Looks after the workers for a time.
    async fn go_on(&mut self, time: Duration) -> anyhow::Result<()> {
        let began = clock::now();
        while clock::since(began) < time {
            self.read()?;
            self.revive()?;
            self.kill_hanging().await?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Takes note of what was noted.
    fn read(&mut self) -> anyhow::Result<()> {
        for Note { step, number, pid, at } in self.reader.read()? {
            match (step, number) {
                (Step::Began, POISON) => self.hangs = Some((pid, at)),
                (Step::Ended, POISON) => self.hangs = None,
                (Step::Began, _) => {}
                (Step::Ended, good) => {
                    if self.good_ended.insert(good) {
                        self.ends.push(at);
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts again what has died.
    fn revive(&mut self) -> anyhow::Result<()> {
        for at in 0..self.workers.len() {
            let Some(status) = self.workers[at].ended()? else { continue };
            if status.signal().is_some() {
                self.note_death();
            } else {
                eprintln!("a worker ended by itself, which is no death: {status}");
            }
            self.workers[at] = self.worker()?;
        }
        Ok(())
    }

    /// Kills a process that made no progress with the poison for a lease.
    async fn kill_hanging(&mut self) -> anyhow::Result<()> {
        let Some((pid, since)) = self.hangs else { return Ok(()) };
        if clock::since(since) < self.plan.lease {
            return Ok(());
        }
        self.hangs = None;
        if let Some(at) = self.workers.iter().position(|worker| worker.pid() == Some(pid)) {
            let next = self.worker()?;
            replace(&mut self.workers[at], next).kill().await?;
            self.note_death();
        }
        Ok(())
    }

    fn note_death(&mut self) {
        self.deaths.push(clock::now());
        self.supply.note_death();
    }

    /// How many good deliveries ended in a second between two moments.
    fn rate(&self, from: Duration, to: Duration) -> f64 {
        let count = self.ends.iter().filter(|end| (from..to).contains(*end)).count();
        per_second(count.try_into().expect("a count has 64 bits at the most"), to.saturating_sub(from))
    }

    /// The lowest rate between two deaths, or between the last one and the end. Over less than a lease no rate is taken: such a
    /// time is part of the one after it, and the last of the one before it. Without a death, the rate of the whole time.
    fn lowest_rate(&self, emitted: Duration, end: Duration) -> f64 {
        let mut marks = vec![self.deaths.first().copied().unwrap_or(emitted)];
        for death in &self.deaths {
            if death.saturating_sub(marks[marks.len() - 1]) >= self.plan.lease {
                marks.push(*death);
            }
        }
        if marks.len() > 1 && end.saturating_sub(marks[marks.len() - 1]) < self.plan.lease {
            marks.pop();
        }
        marks.push(end);
        marks.windows(2).map(|span| self.rate(span[0], span[1])).fold(f64::INFINITY, f64::min)
    }

    async fn end(self) -> anyhow::Result<()> {
        for worker in self.workers {
            worker.kill().await?;
        }
        Ok(())
    }
}
