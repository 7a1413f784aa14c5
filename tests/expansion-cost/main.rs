//! What `#[handler]` costs `cargo check`: a package of 300 handlers, beside the same functions without the attribute.
//!
//! `cargo run --release -p evented-tests --bin expansion-cost` prints one line of JSON: `check_ms_per_handler` is what the
//! attribute adds to a function, `plain_ms_per_function` what the function adds to a package that has the events alone.
//! Each time is the shortest of nine rounds, in which the three packages alternate: what makes a round longer is not theirs.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const HANDLERS: usize = 300;
const EVENTS: usize = 30;
const ROUNDS: usize = 9;

/// What the package holds beside its events.
#[derive(Clone, Copy)]
enum Functions {
    None,
    Plain,
    Handlers,
}

fn main() -> Result<(), Box<dyn Error>> {
    let package = package()?;
    // Builds the dependencies.
    check(&package, Functions::Handlers, 0)?;
    let mut took = [const { Vec::new() }; 3];
    for round in 1..=ROUNDS {
        for (functions, took) in [Functions::None, Functions::Plain, Functions::Handlers].into_iter().zip(&mut took) {
            took.push(check(&package, functions, round)?);
        }
    }
    let [none, plain, handlers] = took.map(|took| took.into_iter().min().unwrap_or_default().as_secs_f64() * 1000.0);
    #[expect(clippy::cast_precision_loss, reason = "300 is a small number")]
    let each = |millis: f64| millis / HANDLERS as f64;
    println!(
        r#"{{"case":"expansion-cost","handlers":{HANDLERS},"check_ms_per_handler":{:.2},"plain_ms_per_function":{:.2}}}"#,
        each(handlers - plain),
        each(plain - none),
    );
    Ok(())
}

/// An empty package that depends on this workspace's evented, in the workspace's target folder.
fn package() -> Result<PathBuf, Box<dyn Error>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the package lies in the workspace")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let package = target.join("expansion-cost");
    fs::create_dir_all(package.join("src"))?;
    let evented = workspace.join("evented");
    let evented = evented.display();
    let manifest = format!(
        "[package]\nname = \"expansion-cost-case\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nevented = {{ path = \"{evented}\" }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\n\
         [workspace]\n"
    );
    fs::write(package.join("Cargo.toml"), manifest)?;
    fs::copy(workspace.join("Cargo.lock"), package.join("Cargo.lock"))?;
    Ok(package)
}

/// How long `cargo check` takes once the dependencies are built.
fn check(package: &Path, functions: Functions, round: usize) -> Result<Duration, Box<dyn Error>> {
    fs::write(package.join("src/lib.rs"), source(functions, round)?)?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["check", "--quiet"]).current_dir(package);
    cargo.env("CARGO_INCREMENTAL", "0").env("CARGO_TARGET_DIR", package.join("target"));
    let began = Instant::now();
    let status = cargo.status()?;
    let took = began.elapsed();
    if status.success() { Ok(took) } else { Err("the generated package does not compile".into()) }
}

/// A third of the functions is for each route, as in an application that uses all.
fn source(functions: Functions, round: usize) -> Result<String, std::fmt::Error> {
    let mut source = format!(
        "// Round {round}.\n#![allow(dead_code)]\nuse evented::prelude::*;\nuse serde::{{Deserialize, Serialize}};\n\n\
         pub struct Mailer;\npub struct Metrics;\npub type Done = Result<(), std::io::Error>;\n"
    );
    for event in 0..EVENTS {
        let transactional = if event % 3 == 2 { "(transactional)" } else { "" };
        writeln!(
            source,
            "\n#[event{transactional}]\n#[derive(Serialize, Deserialize)]\npub struct Event{event} {{ order_id: u64, email: String }}"
        )?;
    }
    let count = if matches!(functions, Functions::None) { 0 } else { HANDLERS };
    for number in 0..count {
        let event = number % EVENTS;
        let (attribute, function) = match event % 3 {
            0 => (
                format!("#[handler(Event{event})]"),
                format!(
                    "fn handle_{number}(event: &Event{event}, metrics: State<Metrics>) {{ let _ = (event, &*metrics); }}"
                ),
            ),
            1 => (
                format!("#[handler(Event{event}, background(queue = \"mail\", retries = 8, timeout = \"30s\"))]"),
                format!(
                    "async fn handle_{number}(event: Event{event}, mailer: State<Mailer>, delivery: Delivery) -> Done \
                     {{ let _ = (&event.email, &*mailer, delivery.id()); Ok(()) }}"
                ),
            ),
            _ => (
                format!("#[handler(Event{event}, outbox)]"),
                format!(
                    "async fn handle_{number}(event: Event{event}, tx: &mut Tx<Sqlite>, mailer: State<Mailer>) -> Done \
                     {{ let _ = (&event.email, tx, &*mailer); Ok(()) }}"
                ),
            ),
        };
        if matches!(functions, Functions::Handlers) {
            writeln!(source, "\n{attribute}\n{function}")?;
        } else {
            writeln!(source, "\n{function}")?;
        }
    }
    Ok(source)
}
