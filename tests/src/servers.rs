//! Private servers of tests: each on a free port of the loopback, in a temporary folder, and gone with the process that
//! started it.
//!
//! A test asks for a server of its own, to kill it or stop it, or for the one that all tests of its process share.
//! Where the server is not installed, there is none, and the test ends:
//! `let Some(redis) = Redis::start(&[]) else { return };`.
//!
//! All of it blocks its thread: a test that needs its other tasks meanwhile runs on several threads.
//!
//! A further kind of server is a further [`Kind`], with a `start` and a `shared` like those of the others.

mod mariadb;
mod ports;
mod postgres;
mod processes;
mod redis;
mod warden;

use std::{
    env,
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::DEADLINE;

pub use mariadb::{Mariadb, MariadbKind};
pub(crate) use ports::free_port;
pub use postgres::{Postgres, PostgresKind};
pub use redis::{Redis, RedisKind};
use warden::Warden;

/// Settings of a server, in its own words: those of `redis.conf`, of `postgresql.conf`, of `my.cnf`.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// On how many ports a server is tried: a port that was free may be taken before the server has it.
const PORTS_MAX: usize = 3;

/// How long to wait before a server is asked again whether it is ready.
const AGAIN: Duration = Duration::from_millis(10);

/// What differs between the servers of one program and those of another.
pub trait Kind: Clone {
    /// The program, by which messages name the server.
    const PROGRAM: &'static str;

    /// Shell commands that clear away what the dead server leaves outside its folder, which is `$1`.
    const FAREWELL: &'static str;

    /// Where clients connect.
    fn url(port: u16) -> String;

    /// Lays out what the server needs in its new folder, and says how it is run there, in the foreground.
    fn prepare(&self, folder: &Path, port: u16) -> Command;

    /// Whether process `pid` answers a real query on the port, or why not.
    fn answers(&self, folder: &Path, port: u16, pid: u32) -> Result<(), String>;
}

/// A server that runs until it is dropped, or until the process ends in whichever way.
pub struct Server<K: Kind> {
    kind: K,
    port: u16,
    warden: Warden,
    command: Command,
    process: Option<Child>,
}

/// Asks a server, from wherever: it does not keep the server from being killed meanwhile.
#[derive(Clone)]
pub struct Client<K: Kind> {
    kind: K,
    port: u16,
}

impl<K: Kind> Server<K> {
    /// Starts a server in a new folder on a free port, and waits until it answers.
    fn begin(kind: &K) -> Self {
        Self::begin_in(kind, None)
    }

    /// The same with its folder in another, such as a small disk.
    fn begin_in(kind: &K, parent: Option<&Path>) -> Self {
        let mut ports = 0;
        loop {
            ports += 1;
            let mut server = Self::prepare(kind.clone(), parent);
            server.run();
            let Err(why) = server.ready() else { return server };
            // Where it has ended, another may have taken the port, and the next is tried.
            if server.runs() || ports == PORTS_MAX {
                server.fail(&why);
            }
        }
    }

    fn prepare(kind: K, parent: Option<&Path>) -> Self {
        let warden = Warden::new(K::FAREWELL, parent);
        let port = free_port();
        let mut command = kind.prepare(warden.folder(), port);
        let log = File::create(warden.folder().join("log")).expect("the folder can be written to");
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        // In a group of its own, it is spared a Ctrl-C at the terminal: the warden ends it.
        command.stdin(Stdio::piped()).current_dir(warden.folder()).process_group(0);
        Self { kind, port, warden, command, process: None }
    }

    fn run(&mut self) {
        let mut process = self.command.spawn().unwrap_or_else(|error| panic!("{} cannot be run: {error}", K::PROGRAM));
        let mut gate = process.stdin.take().expect("it was asked for");
        self.warden.watch(&[process.id()]);
        self.process = Some(process);
        // What fails here is a server that has ended already, which waiting for its answer finds.
        let _ended = gate.write_all(b"go\n");
    }

    fn ready(&mut self) -> Result<(), String> {
        let until = Instant::now() + DEADLINE;
        loop {
            let Some(pid) = self.process.as_ref().map(Child::id) else { return Err("it does not run".into()) };
            let answer = self.kind.answers(self.warden.folder(), self.port, pid);
            if !self.runs() {
                return Err("it ended by itself".into());
            }
            match answer {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() > until => return Err(format!("no answer within {DEADLINE:?}: {why}")),
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    /// Whether it has not ended, by itself or killed.
    fn runs(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        let ended = process.try_wait().expect("a child can be waited for").is_some();
        if ended {
            // Its number may be another's from now on.
            self.process = None;
            self.warden.watch(&[]);
        }
        !ended
    }

    fn fail(&self, why: &str) -> ! {
        let log = fs::read_to_string(self.folder().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        panic!("{} on port {} is not ready: {why}; its log ends:\n{end}", K::PROGRAM, self.port)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        K::url(self.port)
    }

    /// The port on 127.0.0.1, which it keeps over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder: its data, and what it says in `log`.
    pub fn folder(&self) -> &Path {
        self.warden.folder()
    }

    /// What asks this server, also after a restart.
    pub fn client(&self) -> Client<K> {
        Client { kind: self.kind.clone(), port: self.port }
    }

    /// All its processes, the first of which began the others. None when it was killed.
    pub fn pids(&self) -> Vec<u32> {
        let main = self.process.as_ref().map(Child::id);
        main.into_iter().chain(main.into_iter().flat_map(processes::children)).collect()
    }

    /// Waits until it answers a query.
    pub fn wait_ready(&mut self) {
        if let Err(why) = self.ready() {
            self.fail(&why);
        }
    }

    /// Kills all its processes with SIGKILL, stopped or not; once this returns they are gone.
    pub fn kill(&mut self) {
        // A process that is stopped begins no others between the look at them and the kill.
        self.stop();
        let pids = self.pids();
        let Some(mut process) = self.process.take() else { return };
        processes::signal(&pids, Signal::KILL);
        processes::until(&pids, "end", |state| matches!(state, None | Some('Z' | 'X')));
        // The number of a process may be given to another once it was waited for.
        self.warden.watch(&[]);
        process.wait().expect("a killed process ends");
    }

    /// Stops all its processes with SIGSTOP: its connections stay, new ones are made, and nothing is answered.
    pub fn stop(&mut self) {
        let stopped = |state| matches!(state, None | Some('T' | 't' | 'Z' | 'X'));
        let main: Vec<u32> = self.process.iter().map(Child::id).collect();
        processes::signal(&main, Signal::STOP);
        processes::until(&main, "stop", stopped);
        let pids = self.pids();
        // A stopped process does not see that the one which began it has died: the warden must know them all.
        self.warden.watch(&pids);
        processes::signal(&pids, Signal::STOP);
        processes::until(&pids, "stop", stopped);
    }

    /// Lets all its processes go on after [`stop`](Self::stop).
    pub fn cont(&mut self) {
        let pids = self.pids();
        processes::signal(&pids, Signal::CONT);
        self.warden.watch(&pids[..pids.len().min(1)]);
    }

    /// As one who looks after servers does: starts it again where it has ended by itself, and waits until it answers. Says whether
    /// it had ended.
    pub fn revive(&mut self) -> bool {
        let ended = !self.runs();
        if ended {
            self.run();
        }
        self.wait_ready();
        ended
    }

    /// Starts it again on the same port and folder, and waits until it answers. One that still runs is killed first.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
        self.wait_ready();
    }
}

impl<K: Kind> Drop for Server<K> {
    fn drop(&mut self) {
        self.warden.end(&self.pids());
        if let Some(mut process) = self.process.take() {
            // It was killed, and nothing is to be known of it any more.
            let _ended = process.wait();
        }
    }
}

/// A command that waits for a line on its standard input before it becomes `program`, so that the warden knows the
/// process first: one whose starter dies in between is told nothing and ends.
fn held(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"read -r _ && exec "$@""#, "held"]).arg(program);
    command
}

/// Where a program is, on PATH or in one of `folders`.
///
/// The one place where a test is skipped for a server that is not installed, or fails where servers are required.
fn find(program: &str, package: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).chain(folders).map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        let required = env::var_os("EVENTED_REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{program} not found on PATH: install it (`apt-get install {package}`), or skip its tests by unsetting \
             EVENTED_REQUIRE_SERVERS"
        );
        println!("skipped: {program} not found");
    }
    found
}
