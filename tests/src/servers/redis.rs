//! A redis for tests: its settings are those of `redis.conf`, and it is asked in its own protocol.

use std::{
    fmt::Write as _,
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Client, Kind, Server, Settings, find, held};

/// A redis on a port of its own.
pub type Redis = Server<RedisKind>;

/// How long a redis may take for each part of an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many hash slots a cluster has.
const SLOTS: u16 = 16_384;

/// Where `redis-server` is, and its settings.
#[derive(Clone)]
pub struct RedisKind {
    program: PathBuf,
    settings: String,
    cluster: bool,
}

impl RedisKind {
    fn new(program: PathBuf, settings: Settings) -> Self {
        let mut text = String::new();
        for (name, value) in settings {
            writeln!(text, "{name} {value}").expect("text can be written to a string");
        }
        Self { program, settings: text, cluster: settings.contains(&("cluster-enabled", "yes")) }
    }
}

impl Kind for RedisKind {
    const PROGRAM: &'static str = "redis-server";
    const FAREWELL: &'static str = "";

    fn url(port: u16) -> String {
        format!("redis://127.0.0.1:{port}")
    }

    fn prepare(&self, folder: &Path, port: u16) -> Command {
        let folder_name = folder.display();
        let mut settings = format!("bind 127.0.0.1\nport {port}\ndir {folder_name}\ndaemonize no\nsave \"\"\n");
        if self.cluster {
            // The only node hears its address from no other.
            settings.push_str("cluster-announce-ip 127.0.0.1\n");
        }
        // The last of two wins.
        settings.push_str(&self.settings);
        let path = folder.join("redis.conf");
        fs::write(&path, settings).expect("the folder can be written to");
        let mut command = held(&self.program);
        command.arg(path);
        command
    }

    fn answers(&self, _folder: &Path, port: u16, pid: u32) -> Result<(), String> {
        ask(port, &["PING"])?;
        let about = ask(port, &["INFO", "server"])?;
        if !about.lines().any(|line| line == format!("process_id:{pid}")) {
            return Err(format!("another redis answers on port {port}"));
        }
        if self.cluster {
            let about = ask(port, &["CLUSTER", "INFO"])?;
            if about.contains("cluster_slots_assigned:0\r\n") {
                let slots: Vec<String> = (0..SLOTS).map(|slot| slot.to_string()).collect();
                let mut words = vec!["CLUSTER", "ADDSLOTS"];
                words.extend(slots.iter().map(String::as_str));
                ask(port, &words)?;
            }
            if !about.contains("cluster_state:ok") {
                return Err(about);
            }
        }
        Ok(())
    }
}

impl Redis {
    /// A redis of one's own, or `None` where there is no `redis-server`.
    ///
    /// It keeps nothing on disk unless its settings say so. With `cluster-enabled yes` it is a cluster of one node that
    /// has all slots, which takes it two seconds.
    pub fn start(settings: Settings) -> Option<Self> {
        Some(Self::begin(&RedisKind::new(program()?, settings)))
    }

    /// The same with all its files in a folder.
    pub fn start_in(folder: &Path, settings: Settings) -> Option<Self> {
        Some(Self::begin_in(&RedisKind::new(program()?, settings), Some(folder)))
    }

    /// The redis that the tests of this process share, or `None` where there is no `redis-server`. Each test has its
    /// [`prefix`](Self::prefix) there.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        let program = program()?;
        Some(SHARED.get_or_init(|| Self::begin(&RedisKind::new(program, &[]))))
    }

    /// What no other test's keys begin with.
    pub fn prefix(&self) -> String {
        static GIVEN: AtomicUsize = AtomicUsize::new(0);
        format!("test-{}:", GIVEN.fetch_add(1, Ordering::Relaxed))
    }

    /// As [`Client::ask`].
    pub fn ask(&self, words: &[&str]) -> Result<String, String> {
        ask(self.port(), words)
    }
}

impl Client<RedisKind> {
    /// The answer to a command, over a connection of its own, as `redis-cli` shows it: a list as lines, nothing as
    /// `(nil)`. An error of the server, the connection's end and a second of silence are an `Err`.
    pub fn ask(&self, words: &[&str]) -> Result<String, String> {
        ask(self.port, words)
    }
}

fn program() -> Option<PathBuf> {
    find("redis-server", "redis-server", [])
}

fn ask(port: u16, words: &[&str]) -> Result<String, String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        write!(request, "${}\r\n{word}\r\n", word.len()).expect("text can be written to a string");
    }
    let exchange = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        read(&mut BufReader::new(stream))
    };
    exchange().unwrap_or_else(|error: io::Error| Err(error.to_string()))
}

/// Reads one answer.
fn read(stream: &mut impl BufRead) -> io::Result<Result<String, String>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let Some(line) = line.strip_suffix("\r\n") else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| unreadable(line))?;
    Ok(match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "-" => Err(rest.to_owned()),
        "$" | "*" if rest == "-1" => Ok("(nil)".to_owned()),
        "$" => {
            let bytes: usize = rest.parse().map_err(|_| unreadable(line))?;
            let mut text = vec![0; bytes + 2];
            stream.read_exact(&mut text)?;
            text.truncate(bytes);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        "*" => {
            let count: usize = rest.parse().map_err(|_| unreadable(line))?;
            let all: Result<Vec<String>, String> = (0..count).map(|_| read(stream)).collect::<io::Result<_>>()?;
            all.map(|lines| lines.join("\n"))
        }
        _ => return Err(unreadable(line)),
    })
}

fn unreadable(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an answer of a redis: {line:?}"))
}
