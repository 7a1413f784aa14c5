//! The process that starts servers and dies. It prints their processes and folders, each in a line, then `started`;
//! then it panics, or waits to be killed, as its argument says.

use std::{env, thread};

use evented_tests::servers::{Kind, Postgres, Redis, Server};

fn print<K: Kind>(server: &Server<K>) {
    for pid in server.pids() {
        println!("process {pid}");
    }
    println!("folder {}", server.folder().display());
}

fn main() {
    let end = env::args().nth(1);
    let Some(redis) = Redis::shared() else { return };
    // Begun by a thread that has ended: a server lives as long as the process, not as the thread.
    let begun = thread::spawn(|| Postgres::start(&[])).join();
    let (Some(mut stopped), Some(shared)) = (begun.expect("it starts"), Postgres::shared()) else { return };
    // Processes that are stopped end by nothing but SIGKILL.
    stopped.stop();
    print(redis);
    print(shared);
    print(&stopped);
    println!("started");
    assert_ne!(end.as_deref(), Some("panics"), "as the test wants it");
    thread::park();
}
