//! The books of emitters and handlers: who was acknowledged, who was handled, and when.
//!
//! A note is one line in one write at the file's end, so that many processes keep one book, and one that is killed leaves
//! whole lines. It is in the system's hands once it is written, and a killed process loses none.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use evented_tests::clock;

/// Both books of one fault.
pub struct Book {
    acknowledged: PathBuf,
    handled: PathBuf,
}

/// A book that is written in.
#[derive(Clone)]
pub struct Notes(Arc<File>);

impl Notes {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    /// Notes an event, with the time.
    pub fn note(&self, number: u64) -> io::Result<()> {
        (&*self.0).write_all(format!("{number} {}\n", clock::nanos()).as_bytes())
    }
}

impl Book {
    /// The books in a folder.
    pub fn of(folder: &Path) -> Self {
        Self { acknowledged: folder.join("acknowledged"), handled: folder.join("handled") }
    }

    /// The emitters' side.
    pub fn receipts(&self) -> io::Result<Notes> {
        Notes::open(&self.acknowledged)
    }

    /// The handlers' side.
    pub fn notes(&self) -> io::Result<Notes> {
        Notes::open(&self.handled)
    }

    /// When something was handled first since `moment`.
    pub fn handled_after(&self, moment: Duration) -> io::Result<Option<Duration>> {
        Ok(read(&self.handled)?.into_iter().map(|(_, at)| at).filter(|at| *at >= moment).min())
    }
}

fn read(path: &Path) -> io::Result<Vec<(u64, Duration)>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let line = |line: &str| {
        let (number, nanos) = line.split_once(' ')?;
        Some((number.parse().ok()?, Duration::from_nanos(nanos.parse().ok()?)))
    };
    // The book may be read while its last line is written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|text| line(text).ok_or_else(|| io::Error::other(format!("no note: `{text}`")))).collect()
}

/// What the books say of each other.
pub struct Compared {
    /// How many events were acknowledged.
    pub emitted: usize,
    /// When those were acknowledged that were never handled.
    pub lost: Vec<Duration>,
    /// How many events were handled more than once.
    pub twice: usize,
}

/// Compares both books.
pub fn compare(book: &Book) -> io::Result<Compared> {
    let acknowledged = read(&book.acknowledged)?;
    let mut handled: HashMap<u64, usize> = HashMap::new();
    for (number, _) in read(&book.handled)? {
        *handled.entry(number).or_default() += 1;
    }
    Ok(Compared {
        emitted: acknowledged.len(),
        lost: acknowledged.iter().filter(|(number, _)| !handled.contains_key(number)).map(|(_, at)| *at).collect(),
        twice: handled.values().filter(|times| **times > 1).count(),
    })
}
