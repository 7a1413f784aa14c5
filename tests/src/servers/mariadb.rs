//! A mariadb for tests: its settings are those of `my.cnf`, and `mariadb` asks it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Client, Kind, Server, Settings, find, held};

/// A mariadb on a port of its own.
pub type Mariadb = Server<MariadbKind>;

/// Settings before those of the test. It survives a crash of the machine as one in production does, since each commit is
/// synced; its files are kept small.
const SETTINGS: Settings = &[
    ("bind-address", "127.0.0.1"),
    ("skip-name-resolve", "ON"),
    ("max-connections", "500"),
    ("innodb-flush-log-at-trx-commit", "1"),
    ("innodb-buffer-pool-size", "64M"),
    ("innodb-log-file-size", "16M"),
];

/// Where the programs of mariadb are, and its settings.
#[derive(Clone)]
pub struct MariadbKind {
    server: PathBuf,
    install: PathBuf,
    client: PathBuf,
    settings: Vec<(String, String)>,
}

impl MariadbKind {
    fn find(settings: Settings) -> Option<Self> {
        // Debian has the server where only root's PATH looks.
        let find = |program| find(program, "mariadb-server", ["/usr/sbin".into(), "/usr/bin".into()]);
        let (server, install, client) = (find("mariadbd")?, find("mariadb-install-db")?, find("mariadb")?);
        let settings = SETTINGS.iter().chain(settings).map(|(name, value)| ((*name).into(), (*value).into()));
        Some(Self { server, install, client, settings: settings.collect() })
    }

    fn ask(&self, port: u16, database: &str, sql: &str) -> Result<String, String> {
        let mut mariadb = Command::new(&self.client);
        mariadb.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root", "--connect-timeout=2"]);
        mariadb.args(["--batch", "--skip-column-names", &format!("--port={port}"), "-e", sql, database]);
        let done = mariadb.output().map_err(|error| format!("mariadb: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }
}

/// As root, as whom the server runs only where it is told so.
fn as_root(command: &mut Command) {
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
}

impl Kind for MariadbKind {
    const PROGRAM: &'static str = "mariadbd";
    const FAREWELL: &'static str = "";

    fn url(port: u16) -> String {
        format!("mysql://root@127.0.0.1:{port}/mysql")
    }

    fn prepare(&self, folder: &Path, port: u16) -> Command {
        let mut install = Command::new(&self.install);
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        // What it makes is synced when the server has started; it need not be before.
        install
            .args(["--innodb-log-file-size=16M", "--innodb-flush-method=nosync"])
            .arg(format!("--datadir={}", folder.join("data").display()));
        // Its temporary files are named by its process, and another may be of that number in another namespace.
        install.env("TMPDIR", folder);
        as_root(&mut install);
        let done = install.output().unwrap_or_else(|error| panic!("{} cannot be run: {error}", self.install.display()));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{} failed: {said}", self.install.display());

        let mut command = held(&self.server);
        command.arg("--no-defaults").arg(format!("--datadir={}", folder.join("data").display()));
        command.arg(format!("--port={port}")).arg(format!("--pid-file={}", folder.join("pid").display()));
        command.arg(format!("--socket={}", folder.join("socket").display()));
        as_root(&mut command);
        for (name, value) in &self.settings {
            command.arg(format!("--{name}={value}"));
        }
        command
    }

    fn answers(&self, folder: &Path, port: u16, pid: u32) -> Result<(), String> {
        // It stands there only once the server has the port.
        let found = fs::read_to_string(folder.join("pid")).unwrap_or_default();
        if found.trim() != pid.to_string() {
            return Err(format!("its pid file says `{}`", found.trim()));
        }
        self.ask(port, "mysql", "select 1").map(drop)
    }
}

impl Mariadb {
    /// A mariadb of one's own, or `None` where none is installed.
    pub fn start(settings: Settings) -> Option<Self> {
        Some(Self::begin(&MariadbKind::find(settings)?))
    }

    /// The same with all its files in a folder.
    pub fn start_in(folder: &Path, settings: Settings) -> Option<Self> {
        Some(Self::begin_in(&MariadbKind::find(settings)?, Some(folder)))
    }

    /// The mariadb that the tests of this process share, or `None` where none is installed. Each test has its
    /// [`database`](Self::database) there.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Mariadb> = OnceLock::new();
        let kind = MariadbKind::find(&[])?;
        Some(SHARED.get_or_init(|| Self::begin(&kind)))
    }

    /// Makes a database that no other test has: its URL.
    pub fn database(&self) -> String {
        static GIVEN: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", GIVEN.fetch_add(1, Ordering::Relaxed));
        let made = self.kind.ask(self.port(), "mysql", &format!("create database {name}"));
        made.unwrap_or_else(|error| panic!("no database can be made on port {}: {error}", self.port()));
        format!("mysql://root@127.0.0.1:{}/{name}", self.port())
    }
}

impl Client<MariadbKind> {
    /// The answer to statements on a database of this server, by its name, over a connection of its own: a row as a line,
    /// columns between tabs. An error of the server, the connection's end and two seconds without a connection are an `Err`.
    pub fn ask(&self, database: &str, sql: &str) -> Result<String, String> {
        self.kind.ask(self.port, database, sql)
    }
}
