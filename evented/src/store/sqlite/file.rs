//! Which file it is: what this process remembers of it, and whether the one at its path is still the one that was opened.
//!
//! A file can be deleted, replaced by a backup, or lose its write-ahead log while connections are open, and SQLite notices none
//! of it: commits go on with Ok into what nobody else opens. So the path is looked at before each use of a connection and after
//! each commit, which is two calls of the operating system. Who writes makes the file again, in a folder that is locked meanwhile;
//! the others ask the writer to.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sqlx::{
    Connection, Error as SqlxError, SqliteConnection, query,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use crate::{
    error::{StoreError, Written},
    store::Identity,
    time,
};

use super::schema;

/// How long to wait before a folder is tried again that another process has locked.
const FOLDER_AGAIN: Duration = Duration::from_millis(5);

/// The files of this process that stores have open.
static FILES: Mutex<Vec<Weak<File>>> = Mutex::new(Vec::new());

/// A file as the operating system knows it.
type Node = (u64, u64);

/// What is at a path: the file, and its write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nodes {
    pub file: Option<Node>,
    log: Option<Node>,
}

impl Nodes {
    /// Whether what was opened is no longer what others open. A log that was not there yet tells nothing.
    pub(super) fn differ_from(self, now: Self) -> bool {
        self.file != now.file || (self.log.is_some() && self.log != now.log)
    }
}

/// The file of one store.
pub(super) struct File {
    options: SqliteConnectOptions,
    /// Made again where it is missing: a queue's. An outbox's is the application's.
    is_ours: bool,
    path: PathBuf,
    log: PathBuf,
    name: String,
    known: Mutex<Known>,
}

struct Known {
    /// The store's name, from its own row.
    name: String,
    identity: Identity,
    file: Option<Node>,
    /// What was last said to have changed.
    said: Option<Nodes>,
}

impl File {
    /// The file of a store whose tables were found or made just now, with its name.
    pub(super) fn new(options: SqliteConnectOptions, is_ours: bool, store: String) -> Arc<Self> {
        let path = real(options.get_filename());
        let known = Known { identity: store.as_str().into(), name: store, file: node(&path), said: None };
        let file = Arc::new(Self {
            name: store_name(&path),
            log: beside(&path, "-wal"),
            path,
            // Whatever the pool's connections say: our statements name their columns as they always are.
            options: options
                .create_if_missing(false)
                .pragma("full_column_names", "off")
                .pragma("short_column_names", "on"),
            is_ours,
            known: Mutex::new(known),
        });
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| file.strong_count() > 0);
        files.push(Arc::downgrade(&file));
        drop(files);
        file.tell_apart();
        file
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn identity(&self) -> Identity {
        self.known().identity.clone()
    }

    /// The store's name in its own row.
    pub(super) fn store(&self) -> String {
        self.known().name.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the name that was read.
    pub(super) fn is_named(&self, store: &str) {
        let mut known = self.known();
        known.file = node(&self.path);
        if known.name == store {
            return;
        }
        tracing::warn!(store = self.name, "another store is at this path now, restored or replaced");
        store.clone_into(&mut known.name);
        drop(known);
        self.tell_apart();
    }

    /// A copy has the name of its original: it is another store, as long as both are open here.
    fn tell_apart(&self) {
        let (name, node) = (self.store(), node(&self.path));
        let is_copy = others(self).any(|other| {
            let known = other.known();
            known.name == name && other.path != self.path && known.file != node
        });
        let identity = match node.filter(|_| is_copy) {
            Some((device, inode)) => format!("{name}, copied to {device:x}:{inode:x}"),
            None => name,
        };
        self.known().identity = identity.into();
    }

    /// What is at the path now.
    pub(super) fn look(&self) -> Nodes {
        Nodes { file: node(&self.path), log: node(&self.log) }
    }

    pub(super) fn log_is_empty(&self) -> bool {
        fs::metadata(&self.log).map_or(0, |log| log.len()) == 0
    }

    pub(super) fn is_there(&self) -> bool {
        self.look().file.is_some()
    }

    /// Says once that what was opened is gone from the path.
    pub(super) fn say_changed(&self, opened: Nodes, now: Nodes) {
        let mut known = self.known();
        if known.said.replace(now) == Some(now) {
            return;
        }
        let what = match now.file {
            None => "the file was deleted",
            Some(_) if now.file != opened.file => "the file was replaced",
            Some(_) => "the file's write-ahead log was deleted or replaced",
        };
        tracing::error!(
            store = self.name,
            "{what} while it was open: what waited in it is lost, unless it is put back; going on with what is at its path"
        );
    }

    /// Opens a connection to what is at the path; answers what that was.
    pub(super) async fn connect(&self) -> Result<(SqliteConnection, Nodes), SqlxError> {
        self.opened(SqliteConnection::connect_with(&self.options).await?).await
    }

    async fn opened(&self, mut conn: SqliteConnection) -> Result<(SqliteConnection, Nodes), SqlxError> {
        // The first look into the file opens its log.
        query("pragma schema_version").execute(&mut conn).await?;
        Ok((conn, self.look()))
    }

    /// The same for who writes: where the file is another than this process knew, or missing, its tables are made first.
    pub(super) async fn connect_to_write(&self) -> Result<(SqliteConnection, Nodes), SqlxError> {
        let made = if self.is_ours { make(&self.options).await? } else { None };
        let (mut conn, nodes) = match made {
            Some(conn) => self.opened(conn).await?,
            None => self.connect().await?,
        };
        let (known, store) = {
            let known = self.known();
            (known.file, known.name.clone())
        };
        if nodes.file == known {
            return Ok((conn, nodes));
        }
        let found = schema::migrate(&mut conn, &self.name, Some(&store)).await;
        self.is_named(&found.map_err(|error| SqlxError::Configuration(Box::new(error)))?);
        Ok((conn, self.look()))
    }
}

/// Makes a file of ours that is missing or empty, and answers the first connection to it. What lies beside the path of a file that is
/// gone belongs to that one: a log of its would be taken for the new one's.
pub(super) async fn make(options: &SqliteConnectOptions) -> Result<Option<SqliteConnection>, SqlxError> {
    let path = real(options.get_filename());
    if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
        return Ok(None);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Of several processes that find it missing, one makes it. A folder that cannot be locked is not shared either.
    let lock = fs::File::open(folder).ok();
    let until = time::after(super::BUSY);
    while lock.as_ref().is_some_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
        && time::now() < until
    {
        time::sleep(FOLDER_AGAIN).await;
    }
    if !path.exists() {
        for suffix in ["-wal", "-shm", "-journal"] {
            // Most often there is none.
            let _gone = fs::remove_file(beside(&path, suffix));
        }
    }
    let options = options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    SqliteConnection::connect_with(&options).await.map(Some)
}

/// Refuses a file that is open by another name: SQLite finds a log by the name, so that two names have two logs, and what one of
/// them commits destroys what the other has.
pub(super) fn refuse_second_name(path: &Path) -> Result<(), StoreError> {
    let path = real(path);
    let (Some(node_here), Some(folder)) = (node(&path), path.parent()) else { return Ok(()) };
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    if links(&path) < 2 {
        return Ok(());
    }
    let names = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_open = |other: &PathBuf| {
        *other != path && !other.is_symlink() && node(other) == Some(node_here) && beside(other, "-wal").exists()
    };
    let open: Vec<_> = names.filter(is_open).collect();
    if open.is_empty() {
        return Ok(());
    }
    let mut text = format!("`{}` is one file with", path.display());
    for other in open {
        write!(text, " `{}`", other.display()).expect("a string takes what is written to it");
    }
    text.push_str(", which is open; SQLite destroys a file that is open by two names: name it by one");
    Err(StoreError::lasting(text, Written::Nothing))
}

/// The name of the store whose identity this is, where it is open in this process.
pub(super) fn named(identity: &Identity) -> Option<String> {
    let files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    files.iter().filter_map(Weak::upgrade).find(|file| file.known().identity == *identity).map(|file| file.name.clone())
}

fn others(file: &File) -> impl Iterator<Item = Arc<File>> {
    let files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let others = files.iter().filter_map(Weak::upgrade).filter(|other| !std::ptr::eq(Arc::as_ptr(other), file));
    others.collect::<Vec<_>>().into_iter()
}

/// The same for every way of writing the file's path.
pub(super) fn store_name(file: &Path) -> String {
    format!("sqlite:{}", real(file).display())
}

/// The path without links. Of a file that is not there, its folder's.
fn real(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut other = path.as_os_str().to_owned();
    other.push(suffix);
    other.into()
}

#[cfg(unix)]
fn node(path: &Path) -> Option<Node> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(unix)]
fn links(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map_or(0, |file| file.nlink())
}

/// Elsewhere a file that is open cannot be deleted.
#[cfg(not(unix))]
fn node(path: &Path) -> Option<Node> {
    path.exists().then_some((0, 0))
}

#[cfg(not(unix))]
fn links(_path: &Path) -> u64 {
    1
}
