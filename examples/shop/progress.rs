//! One line that says how far it is: rewritten in place on a terminal, printed each second elsewhere.

use std::{
    cell::Cell,
    convert::Infallible,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use evented::{App, Count, Route};

/// Shows the progress until it is dropped; it comes back only to say that the counts cannot be read.
pub async fn show(app: &App, placed: &Cell<usize>, orders: usize) -> anyhow::Result<Infallible> {
    let terminal = io::stdout().is_terminal();
    let mut tick = tokio::time::interval(Duration::from_millis(if terminal { 100 } else { 1000 }));
    loop {
        tick.tick().await;
        let line = line(&app.counts().await?, placed.get(), orders);
        let mut stdout = io::stdout().lock();
        if terminal {
            write!(stdout, "\r\x1b[2K{line}")?;
        } else {
            writeln!(stdout, "{line}")?;
        }
        stdout.flush()?;
    }
}

/// Takes the line off the terminal, for what comes after it.
pub fn clear() {
    if io::stdout().is_terminal() {
        print!("\r\x1b[2K");
    }
}

/// After a `kill -9`, what the killed process held counts as running until its lease ends.
fn line(counts: &[Count], placed: usize, orders: usize) -> String {
    let stored = || counts.iter().filter(|count| count.route != Route::InProcess);
    let done: u64 = stored().map(|count| count.done + count.dead).sum();
    let running: u64 = stored().map(|count| count.running).sum();
    let waiting: u64 = stored().map(|count| count.waiting).sum();
    format!("orders {placed:>3}/{orders}   deliveries: {done:>4} settled, {running:>2} running, {waiting:>3} waiting")
}
