//! What the process logs, at every level and of every crate, as a test hears it.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tracing_subscriber::fmt::MakeWriter;

/// All that was logged since the first call, by all tests of the process.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

/// Listens from now on.
///
/// # Panics
/// When another subscriber is set already.
pub fn heard() -> Heard {
    static HEARD: OnceLock<Heard> = OnceLock::new();
    let listen = || {
        let heard = Heard::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        subscriber.with_writer(heard.clone()).try_init().expect("no other subscriber is set");
        heard
    };
    HEARD.get_or_init(listen).clone()
}

impl Heard {
    /// The lines so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Heard {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
