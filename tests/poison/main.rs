//! What a delivery costs that kills every process which touches it: how many die until it is a dead letter, whether innocent
//! ones are buried with it, and what the others get done meanwhile.
//!
//! ```sh
//! cargo run --release -p evented-tests --bin poison -- --store sqlite --kind handler --seeds 3
//! ```
//!
//! Two worker processes are under a supervisor that starts a dead one again at once. A supply keeps 1,000 good deliveries waiting,
//! and 1,000 more for each death, with handlers of 2 to 10 ms; among them comes one poison, of a kind: `handler` aborts the process
//! in its handler, `decoder` in its `Deserialize`, `hang` blocks in a plain function, and the supervisor kills its process with
//! SIGKILL once it made no progress for a lease. Each seed has a new store, takes the rate of the workers alone, then emits the
//! poison, and waits until it is a dead letter and everything else has run, for 60 leases at the most.
//!
//! One line of JSON for each store and kind, over all seeds: `deaths` is how many processes died in the worst seed, `dead_letters`
//! how many the poison is, in the worst seed, `innocents_dead` how many good deliveries are dead letters. `others_per_second` is
//! the lowest rate at which good deliveries ended between two deaths, or between the last death and the dead letter, taken over a
//! lease at least; `rate_alone` is their rate without a poison, the median of the seeds. The program fails unless each seed has at
//! most five deaths, one dead letter and no other, nothing is left, and the others have at least half of their rate alone.
//!
//! Options: `--store sqlite,postgres,redis`, `--kind handler`, `decoder`, `hang` or `all`, `--seeds 20`, `--seed` of the
//! first one, `--lease-seconds 1`.

mod notes;
mod child;
mod supply;
mod seed;

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use evented_tests::{
    args::Args,
    children::{self, child_args},
    clock,
    figures::{Line, median, warn_of_debug},
    ground::{Aof, Engine, Ground},
};

use self::{
    child::Kind,
    seed::{Ended, Plan},
};

/// So many processes may die of one poison.
const DEATHS_MAX: usize = 5;
/// What part of their rate alone the others have at the least.
const OTHERS_MIN: f64 = 0.5;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    children::log_to_stderr();
    if let Some(args) = child_args() {
        child::run(&args).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::read(&["json"], &["store", "kind", "seeds", "seed", "lease-seconds"])?;
    let seeds: u64 = args.get("seeds", 20)?;
    ensure!(seeds > 0, "`--seeds` is one at the least");
    let first = args.get("seed", clock::nanos() % 1_000_000)?;
    let lease = args.seconds("lease-seconds", 1.0)?;
    let kinds = match args.get("kind", "all".to_owned())?.as_str() {
        "all" => Kind::ALL.to_vec(),
        kind => vec![kind.parse()?],
    };
    warn_of_debug();
    let mut well = true;
    for engine in args.engines()? {
        let Some(ground) = Ground::start(engine, Aof::Everysec, &[]) else { continue };
        for &kind in &kinds {
            let mut ended = Vec::new();
            for seed in first..first + seeds {
                let one = seed::run(&ground, Plan { kind, seed, lease }).await;
                ended.push(one.with_context(|| format!("{engine}, {}, seed {seed}", kind.name()))?);
            }
            let worst = Worst::of(&ended);
            worst.line(engine, kind, seeds).print(true);
            let problems = worst.problems();
            for problem in &problems {
                eprintln!("{engine}, {}, seeds from {first}: {problem}", kind.name());
            }
            well &= problems.is_empty();
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The worst of all seeds.
struct Worst {
    deaths: usize,
    dead_letters: usize,
    innocents_dead: usize,
    others_per_second: f64,
    rate_alone: f64,
    left: u64,
}

impl Worst {
    fn of(ended: &[Ended]) -> Self {
        let alone: Vec<f64> = ended.iter().map(|one| one.rate_alone).collect();
        let letters = || ended.iter().map(|one| one.dead_letters);
        // One that is not buried is worse than one that is buried twice.
        let dead_letters = if letters().any(|count| count == 0) { 0 } else { letters().max().unwrap_or_default() };
        Self {
            deaths: ended.iter().map(|one| one.deaths).max().unwrap_or_default(),
            dead_letters,
            innocents_dead: ended.iter().map(|one| one.innocents_dead).sum(),
            others_per_second: ended.iter().map(|one| one.others_per_second).fold(f64::INFINITY, f64::min),
            rate_alone: median(&alone),
            left: ended.iter().map(|one| one.left).sum(),
        }
    }

    fn line(&self, engine: Engine, kind: Kind, seeds: u64) -> Line {
        Line::new("poison", engine.name())
            .with("kind", kind.name())
            .with("seeds", seeds)
            .with("deaths", self.deaths)
            .with("dead_letters", self.dead_letters)
            .with("innocents_dead", self.innocents_dead)
            .figure("others_per_second", self.others_per_second)
            .figure("rate_alone", self.rate_alone)
    }

    /// What is not as it should be.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.deaths > DEATHS_MAX {
            problems.push(format!("{} processes died of one poison, more than {DEATHS_MAX}", self.deaths));
        }
        if self.dead_letters != 1 {
            problems.push(format!("the poison is {} dead letters", self.dead_letters));
        }
        if self.innocents_dead > 0 {
            problems.push(format!("{} good deliveries are dead letters", self.innocents_dead));
        }
        if self.others_per_second < self.rate_alone * OTHERS_MIN {
            let (others, alone) = (self.others_per_second, self.rate_alone);
            problems.push(format!("the others ran at {others:.0} a second, alone at {alone:.0}"));
        }
        if self.left > 0 {
            problems.push(format!("{} deliveries were not worked off", self.left));
        }
        problems
    }
}
