//! Which deliveries were suspected of having killed their process, as the log tells it.

use std::{
    collections::HashSet,
    fmt,
    io::stderr,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::LevelFilter,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// What the worker's line about such a delivery says.
const LINE: &str = "a delivery runs again, alone in its process";
/// The field of the line that names the delivery.
const DELIVERY: &str = "delivery";

/// The suspects so far.
#[derive(Clone, Default)]
pub struct Suspects(Arc<Mutex<HashSet<String>>>);

impl Suspects {
    /// Listens from now on, and writes the log to the standard error output, as far as `RUST_LOG` asks.
    pub fn listen() -> Self {
        let suspects = Self::default();
        let told = tracing_subscriber::fmt::layer().with_writer(stderr).with_filter(EnvFilter::from_default_env());
        tracing_subscriber::registry().with(told).with(suspects.clone().with_filter(LevelFilter::INFO)).init();
        suspects
    }

    /// Takes those that there are.
    pub fn take(&self) -> usize {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).len()
    }
}

impl<S: Subscriber> Layer<S> for Suspects {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target().starts_with("evented") {
            let mut line = Line::default();
            event.record(&mut line);
            if line.message.contains(LINE) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(line.delivery);
            }
        }
    }
}

#[derive(Default)]
struct Line {
    message: String,
    delivery: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            DELIVERY => self.delivery = format!("{value:?}"),
            _ => {}
        }
    }
}
