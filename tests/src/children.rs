//! Children of a program: the same program, started again to be another process that is measured, or killed.
//!
//! A child ends when its standard input does, so that none outlives its parent, in whichever way that ends.

use std::{
    env, io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child as Process, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a child may take to say what is waited for, and to end what it began.
const PATIENCE: Duration = Duration::from_mins(2);

/// The first argument of a child.
pub const CHILD: &str = "child";

/// The arguments of a child, where this process is one.
pub fn child_args() -> Option<Vec<String>> {
    let mut args = env::args().skip(1);
    (args.next()? == CHILD).then(|| args.collect())
}

/// Waits until the parent wants no more of this child. Never ends where standard input cannot be read.
pub async fn until_dismissed() {
    let reading = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink()));
    let _read = reading.await;
}

/// Writes the log of a child to its standard error output, as far as `RUST_LOG` asks; errors only where it is not set.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

/// A running child. Dropping it kills it.
pub struct Child {
    process: Process,
    orders: Option<ChildStdin>,
    said: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this program again, with these arguments.
    pub fn start(args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(CHILD).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("this program cannot be started again")?;
        let orders = process.stdin.take();
        let said = BufReader::new(process.stdout.take().context("its output was asked for")?).lines();
        Ok(Self { process, orders, said })
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// The next line that it says.
    pub async fn line(&mut self) -> anyhow::Result<String> {
        let line = timeout(PATIENCE, self.said.next_line()).await.context("a child says nothing")?;
        line?.context("a child ended by itself")
    }

    /// Gives it a line.
    pub async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let orders = self.orders.as_mut().context("the child was dismissed")?;
        orders.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(())
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// Kills it with SIGKILL; once this returns it is gone.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Dismisses it, and waits until it has ended what it began.
    pub async fn end(mut self) -> anyhow::Result<()> {
        drop(self.orders.take());
        let status = timeout(PATIENCE, self.process.wait()).await.context("a child does not end")??;
        ensure!(status.success(), "a child failed: {status}");
        Ok(())
    }
}
