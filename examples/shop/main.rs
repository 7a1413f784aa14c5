//! A small shop: what one order sets off, and how each consequence is delivered.
//!
//! ```sh
//! cargo run --example shop             # places 300 orders, waits for every delivery, checks all numbers
//! cargo run --example shop -- serve    # takes `POST /orders` until Ctrl-C
//! cargo run --example shop -- work     # a worker alone, on the same files, beside it
//! cargo run --example shop -- --queue redis://127.0.0.1:6379     # the same code, with its queue in Redis
//! ```
//!
//! Start reading at [`place`]: one order, one transaction. Then [`handlers`]: six functions, one for each consequence.
//! Kill it whenever you like, also with `kill -9`, and run it again: it goes on where it was.

mod books;
mod catalogue;
mod check;
mod demo;
mod events;
mod expect;
mod figures;
mod handlers;
mod invoice;
mod mail;
mod options;
mod orders;
mod place;
mod progress;
mod server;
mod shop;
mod table;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use evented::prelude::*;
use tracing_subscriber::EnvFilter;

use crate::{
    options::{Mode, Options},
    shop::Shop,
};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(mistake) => {
            eprintln!("{mistake}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    log_to_stderr(&options.mode);
    run(options).await.unwrap_or_else(|error| {
        eprintln!("shop: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(options: Options) -> anyhow::Result<ExitCode> {
    if matches!(options.mode, Mode::Help) {
        println!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    }
    let shop = Shop::open(options.data, options.queue).await?;
    match options.mode {
        Mode::Demo => return demo::run(&shop).await,
        Mode::Serve { port } => server::serve(shop, port).await?,
        Mode::Work => work(&shop).await?,
        Mode::Help => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The worker process: another entry point of the same code, with the same handlers and the same state.
async fn work(shop: &Shop) -> anyhow::Result<()> {
    let app = shop.evented().role(Role::Work).await?;
    println!("working on {}, stop with Ctrl-C", shop.data().display());
    app.until_stopped().await?;
    Ok(())
}

/// The demo keeps its screen for the table, which counts the retries and dead letters that a worker would log; the
/// long-running modes tell what they do.
fn log_to_stderr(mode: &Mode) {
    let level = if matches!(mode, Mode::Demo) { "warn,evented::judge=off" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
}
