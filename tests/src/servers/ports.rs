//! Free ports of the loopback that stay one's own while nobody listens on them.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Below the ports that the system gives to connections, so that none of them takes the port of a server that is down.
/// A redis of a cluster listens on its port and 10000 more as well.
const FIRST: u16 = 12_000;
const COUNT: u16 = 10_000;

/// A port that nobody listens on, and that this process has not given out before.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // Processes begin at different places, or they would race for the same ports.
    let place = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos()) ^ process::id();
    let next = NEXT.get_or_init(|| AtomicU32::new(place()));
    let count = u32::from(COUNT);
    let port = |step: u32| FIRST + u16::try_from(step % count).expect("it is below the count");
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..count)
        .map(|_| port(next.fetch_add(1, Ordering::Relaxed)))
        .find(free)
        .expect("one of ten thousand ports is free")
}
