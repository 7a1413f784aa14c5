//! What can go wrong: the caller's `Error`, a store's `StoreError`, and the two errors by which a handler steers its retry.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::guard::{guarded, let_go};

/// Any error that a handler may return.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What a handler's run came to.
pub type HandlerResult = Result<(), BoxError>;

/// `Result` with evented's [`Error`] as its default.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What evented answers when it cannot do what it was asked. [`kind`](Self::kind) tells the cases apart.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    text: String,
    source: Option<BoxError>,
}

/// The cases of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `run()` was not awaited in this process, or has stopped. Nothing was stored, no handler ran.
    NotStarted,
    /// `run()` found problems; the text lists all of them. Nothing was started.
    Boot,
    /// Nothing was stored, no handler ran: emitting again is safe.
    NotStored,
    /// Whether the event was stored is not known. An emit with an id chosen before, [`Emit::id`](crate::Emit::id), can be
    /// repeated: that stores it at most once.
    Unknown,
    /// The event cannot be stored: it cannot be encoded, would not come back as it is, or is larger than the limit; or its delay
    /// is longer than the database of a handler with `&mut Tx` remembers. Nothing was stored.
    Unstorable,
    /// The transaction's database is not the outbox that `run()` was given, or it cannot be the `&mut Tx` of a handler that
    /// would run in it. Nothing was written.
    NoOutbox,
    /// An `in_process(in_transaction)` handler failed. Its writes and the event are undone; the transaction goes on.
    Handler,
    /// A store could not be read or written outside an emit.
    Store,
    /// No store knows a queue or a handler of this name. Nothing was changed.
    NotFound,
    /// The application's own database answered an error; `source()` is the driver's.
    Database,
    /// An error of the application's own, made with [`Error::other`].
    Other,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, text: text.into(), source: None }))
    }

    /// An error of the application's own, for an implementation of [`HandlerArg`](crate::HandlerArg).
    pub fn other(error: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Other, "an argument of the handler could not be taken").because(error)
    }

    pub(crate) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn not_started() -> Self {
        Self::new(ErrorKind::NotStarted, "evented is not started; await `evented::run()` at startup, before this emit")
    }

    /// A store's error as the caller of `emit` meets it.
    pub(crate) fn emitting(error: StoreError) -> Self {
        let place = error.place();
        let again = if error.transient { "; emit it again" } else { "" };
        match error.written {
            Written::Nothing => {
                Self::new(ErrorKind::NotStored, format!("the event was not stored{place}, no handler ran{again}"))
            }
            Written::Unknown => Self::new(
                ErrorKind::Unknown,
                format!(
                    "it is not known whether the event was stored{place}; where that matters, emit with an id chosen before, \
                     `.id(EventId::new())`: repeated with the same id it is stored once"
                ),
            ),
        }
        .because(error)
    }

    /// Which of the cases this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// The text and its causes, one a line: what `fn main() -> evented::Result` prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_causes(self, f)
    }
}

/// An error and its causes, one a line. Never by their `Debug`, in which a database quotes the row that it refuses.
fn with_causes(error: &(dyn StdError + 'static), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut said = error.to_string();
    f.write_str(&said)?;
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors print their source themselves; said once is enough.
        if !said.ends_with(&text) {
            write!(f, "\n  caused by: {text}")?;
        }
        said = text;
        cause = error.source();
    }
    Ok(())
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (what, place) = (error.act().map_or("asking a store", Act::what), error.place());
        let left = match (error.act(), error.written) {
            (Some(Act::Read(_)), _) => "",
            (_, Written::Nothing) => ", nothing was changed",
            (_, Written::Unknown) => ", and whether anything was changed is not known",
        };
        let again = if error.transient { "; try again" } else { "" };
        Self::new(ErrorKind::Store, format!("{what}{place} failed{left}{again}")).because(error)
    }
}

/// What a store answers when it cannot do what it was asked.
pub struct StoreError {
    text: String,
    transient: bool,
    written: Written,
    /// What was asked of which store, once the error has left it.
    asked: Option<Box<(Act, String)>>,
    source: Option<BoxError>,
}

/// What a store was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Open(&'static str),
    Read(&'static str),
    Write(&'static str),
}

impl Act {
    fn what(self) -> &'static str {
        let (Self::Open(what) | Self::Read(what) | Self::Write(what)) = self;
        what
    }
}

/// What is left of a write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Nothing of it.
    Nothing,
    /// All of it or nothing: the answer was lost.
    Unknown,
}

impl StoreError {
    /// It may work when tried again: the database is locked, the connection was lost.
    pub fn transient(text: impl Into<String>, written: Written) -> Self {
        Self { text: text.into(), transient: true, written, asked: None, source: None }
    }

    /// It will not work until somebody changes something.
    pub fn lasting(text: impl Into<String>, written: Written) -> Self {
        Self { text: text.into(), transient: false, written, asked: None, source: None }
    }

    /// The driver's error behind it.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What was asked, and of which store. Who said it first knows best.
    pub(crate) fn at(mut self, act: Act, place: &str) -> Self {
        self.asked.get_or_insert_with(|| Box::new((act, place.to_owned())));
        self
    }

    fn act(&self) -> Option<Act> {
        self.asked.as_ref().map(|asked| asked.0)
    }

    /// ` in redis:localhost:6379/0`, for a sentence that goes on; empty where it is not known.
    fn place(&self) -> String {
        self.asked.as_ref().map_or_else(String::new, |asked| format!(" in {}", asked.1))
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// What is left of the write.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked.as_deref() {
            // Some texts name the place themselves, as those of opening do.
            Some((Act::Open(_), place)) if !self.text.contains('`') => write!(f, "{place}: {}", self.text),
            Some((Act::Read(what) | Act::Write(what), place)) => write!(f, "{what} in {place}: {}", self.text),
            _ => f.write_str(&self.text),
        }
    }
}

/// The text and its causes, one a line.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_causes(self, f)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A handler's failure that no retry can mend: the delivery goes to the dead letters at once.
///
/// ```
/// # use evented::Permanent;
/// fn send(address: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     if !address.contains('@') {
///         return Err(Permanent::new(format!("`{address}` is not an address")).into());
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Permanent(Steer);

/// A handler's failure that names the wait before its next attempt, instead of the handler's backoff.
///
/// ```
/// # use evented::RetryAfter;
/// # use std::time::Duration;
/// fn call() -> Result<(), RetryAfter> {
///     Err(RetryAfter::new(Duration::from_secs(60), "the service asked for a pause"))
/// }
/// ```
#[derive(Debug)]
pub struct RetryAfter(Steer);

/// The first source of `Permanent` and `RetryAfter`. A conversion into a box may hide the outermost error (`anyhow`
/// does), never its sources, so what steers is repeated here.
#[derive(Debug)]
struct Steer {
    retry: Retry,
    error: BoxError,
}

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    Never,
    After(Duration),
    WithBackoff,
}

impl Permanent {
    /// Gives up for the reason of `error`.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(Steer { retry: Retry::Never, error: error.into() })
    }
}

impl RetryAfter {
    /// Tries again after `delay`; the attempt counts.
    pub fn new(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self(Steer { retry: Retry::After(delay), error: error.into() })
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not to be tried again")
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.retry {
            Retry::After(delay) => write!(f, "to be tried again after {delay:?}"),
            Retry::Never | Retry::WithBackoff => f.write_str("to be tried again"),
        }
    }
}

impl fmt::Display for Steer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Permanent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

impl StdError for RetryAfter {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

impl StdError for Steer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// What is left of a handler's error once we have it: its text, and what it asks for. The error itself is the application's,
/// and its `Display`, its `source()` and its `Drop` may panic.
#[derive(Debug)]
struct Failure {
    text: String,
    retry: Retry,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Failure {}

/// A handler's error as one of ours, which can be looked at and dropped anywhere.
#[cold]
pub(crate) fn tamed(error: BoxError) -> BoxError {
    if error.is::<Failure>() {
        return error;
    }
    let failure = Failure { text: in_one_line(&*error), retry: retry_of(&*error) };
    let_go(error);
    failure.into()
}

/// What `error` asks for, found anywhere in its chain of sources.
pub(crate) fn retry_of(error: &(dyn StdError + Send + Sync + 'static)) -> Retry {
    let look = || {
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(steer) = error.downcast_ref::<Steer>() {
                return steer.retry;
            }
            if let Some(failure) = error.downcast_ref::<Failure>() {
                return failure.retry;
            }
            next = error.source();
        }
        Retry::WithBackoff
    };
    guarded(look).unwrap_or(Retry::WithBackoff)
}

/// The longest text of an error that is logged or stored, in bytes.
const TEXT_MAX: usize = 4_000;

/// An error with its causes in one line, as it is logged and kept with a dead letter. What is too long is cut.
pub(crate) fn in_one_line(error: &(dyn StdError + 'static)) -> String {
    guarded(|| line_of(error)).unwrap_or_else(|panic| format!("an error whose text cannot be had: it {panic}"))
}

fn line_of(error: &(dyn StdError + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors print their source themselves; said once is enough.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    if line.len() > TEXT_MAX {
        line.truncate(line.floor_char_boundary(TEXT_MAX));
        line.push_str(" ..");
    }
    line
}
