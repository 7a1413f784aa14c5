//! The table at the end: what each handler has done, and how long it took.

use std::time::Duration;

use evented::{Count, DeadLetter, Route};

use crate::{books::Books, catalogue::euros, check::Checks, figures::Timings};

const WIDTH: usize = 90;

pub fn print(books: &Books, counts: &[Count], timings: &Timings) {
    let (accepted, refused) = (books.accepted.len(), books.refused.len());
    println!("orders    {} placed: {accepted} accepted, {refused} refused as out of stock", accepted + refused);
    println!("payments  {} booked, {} in all\n", books.ledger_entries, euros(books.ledger_cents));

    print_line("handler", "route", ["done", "retried", "dead", "p50", "p99"].map(str::to_owned));
    println!("{}", "─".repeat(WIDTH));
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|count| (count.route, &count.handler));
    for count in counts {
        // A call inside `emit` is never retried.
        let retried = if count.route == Route::InProcess { none() } else { count.retried.to_string() };
        let latency = |percent| timings.percentile(&count.handler, percent).map_or_else(none, milliseconds);
        let cells = [count.done.to_string(), retried, count.dead.to_string(), latency(50), latency(99)];
        print_line(&count.handler, &count.route.to_string(), cells);
    }
    println!("{}", "─".repeat(WIDTH));
    println!("p50 and p99: from emit to done, in this run");
    println!("in_process: the calls of this run, `dead` those that failed");
}

/// A dead letter keeps its error, so that a person can decide what becomes of it.
pub fn print_dead_letters(letters: &[DeadLetter]) {
    if let [letter, ..] = letters {
        println!("\n{} dead letters, one of them {}: {}", letters.len(), letter.handler, letter.error);
    }
}

pub fn print_verdict(checks: &Checks) {
    let Checks { made, mismatches } = checks;
    for mismatch in mismatches {
        eprintln!("wrong: {mismatch}");
    }
    println!("\n{} of {made} numbers are as the orders want them", made - mismatches.len());
}

fn print_line(handler: &str, route: &str, [done, retried, dead, p50, p99]: [String; 5]) {
    println!("{handler:<31} {route:<10} {done:>6} {retried:>8} {dead:>6} {p50:>10} {p99:>10}");
}

fn none() -> String {
    "-".to_owned()
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
