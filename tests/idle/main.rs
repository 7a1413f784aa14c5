//! What a process costs that has nothing to do: a worker with handlers on two queues, at its defaults, and nothing waiting.
//!
//! ```sh
//! cargo run --release -p evented-tests --bin idle -- --seconds 30 --json
//! ```
//!
//! `statements_per_second` is counted where nobody can forget one. Postgres writes each statement that it executes to its log,
//! with `log_statement = all`. Redis counts the commands that it processes, those inside scripts too; the two that ask for
//! the count are taken off. SQLite is a library inside the process, and has no such count that safe code can read: there
//! sqlx's own log is counted, which has a line for each statement; only the `BEGIN` and `COMMIT` of write transactions are not
//! in it, so it is also checked that the file's write-ahead log did not change.
//!
//! `cpu_percent` is the time that the kernel counts for the process, of one core. It is taken of a process of its own, beside
//! the one whose statements are counted: counting costs time.
//!
//! Options: `--store sqlite,postgres,redis`, `--seconds 30`, `--json`.

mod count;

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use evented::prelude::*;
use evented_tests::{
    args::Args,
    children::{Child, child_args, until_dismissed},
    clock,
    figures::{Line, per_second, warn_of_debug},
    ground::{Aof, Engine, Ground, sqlite_path},
};
use serde::{Deserialize, Serialize};

/// How long a worker has to come to rest after its start.
const SETTLING: Duration = Duration::from_secs(2);

#[event]
#[derive(Serialize, Deserialize)]
struct Rung {
    number: u64,
}

#[handler(Rung, background)]
async fn answer(_event: Rung) {}

#[handler(Rung, background(queue = "mail"))]
async fn post(_event: Rung) {}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(args) = child_args() {
        return work(&args).await;
    }
    let args = Args::read(&["json"], &["store", "seconds"])?;
    let seconds = args.seconds("seconds", 30.0)?;
    warn_of_debug();
    for engine in args.engines()? {
        // All of what a postgres executes is in its log. Other engines know no such setting.
        let settings: &[_] = if engine == Engine::Postgres { &[("log_statement", "all")] } else { &[] };
        let Some(ground) = Ground::start(engine, Aof::Everysec, settings) else { continue };
        measure(&ground, seconds).await?.print(args.has("json"));
    }
    Ok(())
}

async fn measure(ground: &Ground, seconds: Duration) -> anyhow::Result<Line> {
    let store = ground.store();
    // On a server a second process would add to what the server counts; there, nothing is counted inside the first.
    let in_process = ground.engine() == Engine::Sqlite;
    let mut counted = start(&store, if in_process { COUNTED } else { PLAIN }).await?;
    let plain = if in_process { Some(start(&ground.store(), PLAIN).await?) } else { None };
    tokio::time::sleep(SETTLING).await;

    let measured = plain.as_ref().unwrap_or(&counted).pid().context("it runs")?;
    let written = written(ground, &store)?;
    let (statements, cpu, began) = (count::statements(ground, &mut counted).await?, cpu_time(measured)?, clock::now());
    tokio::time::sleep(seconds).await;
    let (cpu, took) = (cpu_time(measured)?.saturating_sub(cpu), clock::since(began));
    let statements = count::statements(ground, &mut counted).await? - statements;
    ensure!(written == self::written(ground, &store)?, "an idle process writes");

    counted.end().await?;
    if let Some(plain) = plain {
        plain.end().await?;
    }
    Ok(Line::new("idle", ground.engine().name())
        .figure("statements_per_second", per_second(statements, took))
        .figure("cpu_percent", cpu.as_secs_f64() / took.as_secs_f64() * 100.0))
}

async fn start(store: &str, how: &str) -> anyhow::Result<Child> {
    let mut child = Child::start(&[store, how])?;
    child.line().await?;
    Ok(child)
}

const COUNTED: &str = "counted";
const PLAIN: &str = "plain";

/// The child: a worker at its defaults. One that is counted answers each line with the number of its statements.
async fn work(args: &[String]) -> anyhow::Result<()> {
    let [url, how] = args else { anyhow::bail!("a child is given the URL of its store, and whether it is counted") };
    if how == COUNTED {
        count::count_here();
    }
    let app = evented::run().role(Role::Work).queue(url).await?;
    println!("ready");
    if how == COUNTED {
        tokio::task::spawn_blocking(count::answer).await??;
    } else {
        until_dismissed().await;
    }
    app.stop().await;
    Ok(())
}

/// The processor time that a process has had, in all its threads.
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name in parentheses, which may have spaces: the state is the third field, `utime` and `stime` are the 14th
    // and 15th, in ticks: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
    let (_, behind) = stat.rsplit_once(')').context("the name ends")?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut ticks = || anyhow::Ok(fields.next().context("it has the times")?.parse::<u64>()?);
    let ticks = ticks()? + ticks()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// When a SQLite store's write-ahead log was last written to.
fn written(ground: &Ground, url: &str) -> anyhow::Result<Option<SystemTime>> {
    if ground.engine() != Engine::Sqlite {
        return Ok(None);
    }
    Ok(Some(fs::metadata(format!("{}-wal", sqlite_path(url)))?.modified()?))
}
