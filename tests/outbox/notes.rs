//! The notes of writers and handlers, which outlive them: what was begun, how it ended, what was handled.
//!
//! A note is one line in one write at the file's end, so that many processes write one file, and one that is killed leaves
//! whole lines. It is in the system's hands once it is written, and a killed process loses none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

/// The files of one run.
#[derive(Clone)]
pub struct Notes {
    /// An order, before its transaction begins, and how many events it has.
    pub begun: Note,
    /// An order, after its transaction ended, and whether it committed, as far as its writer knows.
    pub ended: Note,
    /// An event that the `outbox` handler without a transaction handled, and the attempt.
    pub told: Note,
    /// An event that the `background` handler without a transaction handled, and the attempt.
    pub mailed: Note,
}

/// One file of pairs of numbers.
#[derive(Clone)]
pub struct Note(Arc<File>);

impl Notes {
    /// Opens the files in a folder, to write.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let open = |name| {
            let file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
            io::Result::Ok(Note(Arc::new(file)))
        };
        Ok(Self { begun: open("begun")?, ended: open("ended")?, told: open("told")?, mailed: open("mailed")? })
    }
}

impl Note {
    /// Notes a pair.
    pub fn note(&self, number: i64, beside: i64) -> io::Result<()> {
        (&*self.0).write_all(format!("{number} {beside}\n").as_bytes())
    }
}

/// The pairs in a file of the folder, once nobody writes any more.
pub fn read(folder: &Path, name: &str) -> io::Result<Vec<(i64, i64)>> {
    let pair = |line: &str| {
        let (number, beside) = line.split_once(' ')?;
        Some((number.parse().ok()?, beside.parse().ok()?))
    };
    let text = fs::read_to_string(folder.join(name))?;
    text.lines().map(|line| pair(line).ok_or_else(|| io::Error::other(format!("no note: `{line}`")))).collect()
}
