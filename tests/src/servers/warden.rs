//! The warden of a server: a shell that kills it and removes its folder once the process that started it has ended,
//! however it ended.
//!
//! It waits at the end of a pipe, which the kernel closes with the process: nothing runs in a process that is killed,
//! nor for a static when one ends, and a signal at the parent's death would come with the thread that started the
//! server. It is told by lines which processes to kill: each line is the whole list. Dropping a server takes the same
//! way.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

/// Its second part is the farewell. Some files come and go while the processes end, so the folder is removed patiently.
const SCRIPT: [&str; 2] = [
    r#"while read -r line; do pids=$line; done; for pid in $pids; do kill -KILL "$pid"; done"#,
    r#"for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && break; sleep 0.2; done"#,
];

pub(super) struct Warden {
    folder: PathBuf,
    shell: Child,
    /// The end of the pipe. The warden acts when it closes.
    orders: Option<ChildStdin>,
}

impl Warden {
    /// A warden with a new folder, in the system's temporary folder or elsewhere.
    pub(super) fn new(farewell: &str, parent: Option<&Path>) -> Self {
        let folder = parent.map_or_else(tempfile::tempdir, tempfile::tempdir_in);
        let folder = folder.expect("a temporary folder can be made").keep();
        let [kill, remove] = SCRIPT;
        // Not in the group that a terminal or a test runner ends as a whole.
        let mut shell = Command::new("sh")
            .args(["-c", &[kill, farewell, remove].join("\n"), "warden"])
            .arg(&folder)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let orders = shell.stdin.take();
        Self { folder, shell, orders }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// These are to be killed, and no others.
    pub(super) fn watch(&mut self, pids: &[u32]) {
        assert!(self.tell(pids).is_ok(), "the warden of {} has died", self.folder.display());
    }

    /// It does its work now, on these.
    pub(super) fn end(&mut self, pids: &[u32]) {
        // A drop in a panic must not panic: where the warden has died, so has what it was for.
        let _told = self.tell(pids);
        drop(self.orders.take());
        let _ended = self.shell.wait();
    }

    fn tell(&mut self, pids: &[u32]) -> io::Result<()> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let Some(orders) = &mut self.orders else { return Err(io::ErrorKind::BrokenPipe.into()) };
        // In one piece, so that no half of it is read.
        orders.write_all(format!("{}\n", pids.join(" ")).as_bytes())
    }
}
