//! A postgres for tests: its settings are those of `postgresql.conf`, and `psql` asks it.

mod template;

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Client, Kind, Server, Settings, find, held};

/// A postgres on a port of its own.
pub type Postgres = Server<PostgresKind>;

/// Settings before those of the test. It survives a crash of the machine as one in production does, since `fsync` stays
/// on; what a killed server leaves in the machine's shared memory is kept small.
const SETTINGS: Settings = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "300"),
    ("shared_buffers", "64MB"),
    ("dynamic_shared_memory_type", "mmap"),
    ("log_line_prefix", "%m [%p] "),
];

/// Where the programs of postgres are, and its settings.
#[derive(Clone)]
pub struct PostgresKind {
    programs: PathBuf,
    settings: Vec<(String, String)>,
    user: Option<User>,
}

/// Whom the server runs as in the place of root, as whom it refuses to run.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl PostgresKind {
    fn find(settings: Settings) -> Option<Self> {
        let found = find("postgres", "postgresql", installed())?;
        // Debian has the programs beside each other, and some of them on PATH as links.
        let found = found.canonicalize().expect("a program that was found is there");
        let programs = found.parent().expect("a program lies in a folder").to_owned();
        let settings = SETTINGS.iter().chain(settings).map(|(name, value)| ((*name).into(), (*value).into()));
        Some(Self { programs, settings: settings.collect(), user: User::of_the_server() })
    }

    /// A command as the server's user.
    fn as_user(&self, mut command: Command) -> Command {
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a folder to the server's user.
    fn give(&self, folder: &Path) {
        if let Some(User { uid, gid }) = self.user {
            chown(folder, Some(uid), Some(gid)).expect("root may give a folder away");
        }
    }

    fn ask(&self, url: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-w", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d", url]);
        // The shortest that it knows.
        let done = psql.env("PGCONNECT_TIMEOUT", "2").output().map_err(|error| format!("psql: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }
}

impl Kind for PostgresKind {
    const PROGRAM: &'static str = "postgres";

    /// A postgres that is killed leaves a segment of System V shared memory, of which a machine has 4096: line 7 of its
    /// lock file is the segment's key and its number.
    const FAREWELL: &'static str = r#"lock="$1/data/postmaster.pid"
[ -f "$lock" ] && ipcrm -m "$(sed -n '7s/.* //p' "$lock")""#;

    fn url(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    fn prepare(&self, folder: &Path, port: u16) -> Command {
        self.give(folder);
        self.unpack_template(folder);
        let mut command = held(&self.programs.join("postgres"));
        command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
        for (name, value) in &self.settings {
            command.args(["-c", &format!("{name}={value}")]);
        }
        self.as_user(command)
    }

    fn answers(&self, folder: &Path, port: u16, pid: u32) -> Result<(), String> {
        let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = lock.lines().map(str::trim).collect();
        // It stands there only once the server has the port.
        if lines.first() != Some(&pid.to_string().as_str()) || lines.get(7) != Some(&"ready") {
            return Err(format!("its lock file says {lines:?}"));
        }
        self.ask(&Self::url(port), "select 1").map(drop)
    }
}

impl Postgres {
    /// A postgres of one's own, or `None` where none is installed.
    pub fn start(settings: Settings) -> Option<Self> {
        Some(Self::begin(&PostgresKind::find(settings)?))
    }

    /// The same with all its files in a folder.
    pub fn start_in(folder: &Path, settings: Settings) -> Option<Self> {
        Some(Self::begin_in(&PostgresKind::find(settings)?, Some(folder)))
    }

    /// The postgres that the tests of this process share, or `None` where none is installed. Each test has its
    /// [`database`](Self::database) there.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        let kind = PostgresKind::find(&[])?;
        Some(SHARED.get_or_init(|| Self::begin(&kind)))
    }

    /// Makes a database that no other test has: its URL.
    pub fn database(&self) -> String {
        static GIVEN: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", GIVEN.fetch_add(1, Ordering::Relaxed));
        // Nobody can be connected to this template, which would be in the way.
        let made = self.ask(&self.url(), &format!("create database {name} template template0"));
        made.unwrap_or_else(|error| panic!("no database can be made on port {}: {error}", self.port()));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port())
    }

    /// As [`Client::ask`].
    pub fn ask(&self, url: &str, sql: &str) -> Result<String, String> {
        self.kind.ask(url, sql)
    }
}

impl Client<PostgresKind> {
    /// The answer to statements on a database of this server, over a connection of its own: a row as a line, columns
    /// between `|`. An error of the server, the connection's end and two seconds without a connection are an `Err`.
    pub fn ask(&self, url: &str, sql: &str) -> Result<String, String> {
        self.kind.ask(url, sql)
    }
}

/// Where Debian installs postgres, the newest first.
fn installed() -> Vec<PathBuf> {
    let folders = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    versions.iter().rev().map(|version| format!("/usr/lib/postgresql/{version}/bin").into()).collect()
}

impl User {
    /// A user that exists, where this process is root's.
    fn of_the_server() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("the users are listed in /etc/passwd");
        let named = |name: &str| {
            let mut fields = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
            Some(Self { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        };
        let user = named("postgres").or_else(|| named("nobody"));
        Some(user.expect("postgres does not run as root: make a user `postgres`, or run the tests as another user"))
    }
}
