//! The notes of the handlers, which outlive their processes: which delivery began where, and which ended.
//!
//! A note is one line in one write at the file's end, so that many processes write one file, and one that is killed leaves
//! whole lines. It is in the system's hands once it is written, and a killed process loses none.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use evented_tests::clock;

/// The file, to write in.
#[derive(Clone)]
pub struct Notes(Arc<File>);

/// A line of it.
pub struct Note {
    pub step: Step,
    /// The event's number.
    pub number: u64,
    /// The process that noted it.
    pub pid: u32,
    pub at: Duration,
}

/// What a handler notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Began,
    Ended,
}

fn path(folder: &Path) -> PathBuf {
    folder.join("notes")
}

impl Notes {
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(OpenOptions::new().create(true).append(true).open(path(folder))?)))
    }

    /// Notes a step of an event's handler.
    pub fn note(&self, step: Step, number: u64) -> io::Result<()> {
        let step = match step {
            Step::Began => "began",
            Step::Ended => "ended",
        };
        (&*self.0).write_all(format!("{step} {number} {} {}\n", process::id(), clock::nanos()).as_bytes())
    }
}

/// Reads what is noted, while it is.
pub struct Reader {
    file: File,
    /// The beginning of a line whose end was not there yet.
    rest: String,
}

impl Reader {
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path(folder))?, rest: String::new() })
    }

    /// What was noted since the last time.
    pub fn read(&mut self) -> io::Result<Vec<Note>> {
        self.file.read_to_string(&mut self.rest)?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.rest.split_off(whole);
        let lines = std::mem::replace(&mut self.rest, rest);
        let parsed = |line: &str| parse(line).ok_or_else(|| io::Error::other(format!("no note: `{line}`")));
        lines.lines().map(parsed).collect()
    }
}

fn parse(line: &str) -> Option<Note> {
    let mut words = line.split(' ');
    let step = match words.next()? {
        "began" => Step::Began,
        "ended" => Step::Ended,
        _ => return None,
    };
    let (number, pid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Note { step, number, pid, at: Duration::from_nanos(words.next()?.parse().ok()?) })
}
