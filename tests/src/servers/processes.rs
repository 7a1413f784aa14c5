//! The processes of a server, as Linux lists them in /proc: a postgres has many, each in a session of its own.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::DEADLINE;

/// Sends a signal to processes; those that have ended are passed over.
pub(super) fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw).expect("a process has a small positive number");
        // The one error is that it is gone.
        let _gone = kill_process(pid, signal);
    }
}

/// Waits until the state of each process, `None` once it is gone, is one that `holds`.
pub(super) fn until(pids: &[u32], what: &str, holds: impl Fn(Option<char>) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    for pid in pids {
        while !holds(look(*pid).map(|(state, _)| state)) {
            assert!(Instant::now() < deadline, "process {pid} did not {what} within {DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The processes that a process began.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("the processes of a server are found in /proc, so it needs Linux");
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| look(*pid).is_some_and(|(_, its)| its == parent)).collect()
}

/// The state of a process and its parent.
fn look(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in front, in parentheses, may have spaces and parentheses itself.
    let (_, behind) = text.rsplit_once(')')?;
    let mut fields = behind.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
