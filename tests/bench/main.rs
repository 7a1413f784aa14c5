//! How fast evented is on each store, beside a raw loop: what a hand would write on the same tables without a framework.
//!
//! ```sh
//! cargo run --release -p evented-tests --bin bench -- drain enqueue latency fairness --json
//! ```
//!
//! evented and the raw loop alternate in one run, each time on a new store, at the same durability; a figure is the median
//! of the rounds. evented runs at its defaults. The raw loops are in `raw/`. Options: `--store sqlite,postgres,redis`,
//! `--rounds 3`, `--deliveries 50000` of a drain (the backlog of `fairness` is twice that), `--seconds 3` of an enqueue and of
//! a trickle, `--idle-seconds 30` before a cold emit, `--appendfsync everysec` of redis, `--json`.

mod cold;
mod drain;
mod enqueue;
mod fairness;
mod load;
mod raw;
mod trickle;

use std::time::Duration;

use anyhow::bail;
use evented_tests::{
    args::Args,
    children::{self, child_args},
    figures::{Line, warn_of_debug},
    ground::{Aof, Ground},
};

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    deliveries: u64,
    seconds: Duration,
    idle: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(args) = child_args() {
        children::log_to_stderr();
        return cold::work(&args).await;
    }
    let args = Args::read(&["json"], &["store", "rounds", "deliveries", "seconds", "idle-seconds", "appendfsync"])?;
    let size = Size {
        rounds: args.get("rounds", 3)?,
        deliveries: args.get("deliveries", 50_000)?,
        seconds: args.seconds("seconds", 3.0)?,
        idle: args.seconds("idle-seconds", 30.0)?,
    };
    let aof = args.get("appendfsync", Aof::Everysec)?;
    let json = args.has("json");
    if let Some(unknown) = args.words().iter().find(|word| !CASES.contains(&word.as_str())) {
        bail!("`{unknown}` is no case; there are {}", CASES.join(", "));
    }
    if args.words().is_empty() {
        bail!("name one case or more: {}", CASES.join(", "));
    }
    warn_of_debug();
    children::log_to_stderr();
    for engine in args.engines()? {
        // Where the server is not installed, the harness says so.
        let Some(ground) = Ground::start(engine, aof, &[]) else { continue };
        for case in args.words() {
            for line in measure(case, &ground, size).await? {
                line.with("durability", ground.durability()).print(json);
            }
        }
    }
    Ok(())
}

const CASES: [&str; 4] = ["drain", "enqueue", "latency", "fairness"];

async fn measure(case: &str, ground: &Ground, size: Size) -> anyhow::Result<Vec<Line>> {
    Ok(match case {
        "drain" => vec![drain::measure(ground, size).await?],
        "enqueue" => vec![enqueue::measure(ground, size).await?],
        "latency" => vec![trickle::measure(ground, size).await?, cold::measure(ground, size).await?],
        _ => vec![fairness::measure(ground, size).await?],
    })
}
