//! Figures: medians and percentiles, and the lines in which they are printed.

use std::{fmt, time::Duration};

use serde_json::{Number, Value};

/// One measured case: names and values, in the order in which they are printed.
pub struct Line(Vec<(&'static str, Value)>);

impl Line {
    /// Begins a line.
    pub fn new(case: &str, store: &str) -> Self {
        Self(vec![("case", case.into()), ("store", store.into())])
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// Adds a number, rounded to what can be known of it.
    #[must_use]
    pub fn figure(self, name: &'static str, figure: f64) -> Self {
        self.with(name, rounded(figure))
    }

    /// Prints it, as JSON or for people.
    pub fn print(&self, json: bool) {
        if json {
            println!("{self}");
            return;
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let cells = self.0.iter().enumerate().map(|(at, (name, value))| match (at, *name) {
            (0..=1, _) => format!("{:<9}", text(value)),
            (_, "unit") => text(value),
            (_, name) => format!("{:<22}", format!("{name} {}", text(value))),
        });
        println!("{}", cells.collect::<Vec<_>>().join(" ").trim_end());
    }
}

/// As a line of JSON.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<_> = self.0.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        write!(f, "{{{}}}", fields.join(","))
    }
}

/// Large figures without a fraction, small ones with three places.
fn rounded(figure: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a rounded figure has no fraction, and is no larger than 64 bits"
    )]
    if figure.abs() >= 1000.0 {
        (figure.round() as i64).into()
    } else {
        Number::from_f64((figure * 1000.0).round() / 1000.0).map_or(Value::Null, Value::Number)
    }
}

/// The value in the middle. Zero where there is none.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The smallest value that this part of all values does not exceed, in per cent. Zero where there is none.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// How many there were in a second.
pub fn per_second(count: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "what is counted here stays far below 2^53")]
    let count = count as f64;
    count / took.as_secs_f64()
}

/// Says on the standard error output that figures of an unoptimised build say nothing.
pub fn warn_of_debug() {
    if cfg!(debug_assertions) {
        eprintln!("warning: a debug build; figures are those of `cargo run --release`");
    }
}
