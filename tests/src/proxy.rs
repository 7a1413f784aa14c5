//! A proxy in front of a server, through which a test makes the network fail: connections that are cut, refused, reset,
//! slow, or silent without an end.
//!
//! A connection is two pumps, one for each direction. Each reads a chunk, waits until chunks may pass, and writes it:
//! what the proxy may do is read at that point alone, so what is asked for holds for each chunk that is sent after it
//! was asked for. The end of a side, and its failure, wait like a chunk: behind a silent network nobody hears of them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};

use crate::servers::free_port;

/// How much is read at once at most.
const CHUNK_BYTES: usize = 16 * 1024;

/// A proxy on a free port of the loopback. It ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    /// `None` while it is cut.
    listening: Option<Listening>,
}

struct Listening {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

struct Network {
    target: String,
    passage: watch::Sender<Passage>,
    /// How many bytes may still pass before a connection is reset.
    left: Mutex<Option<usize>>,
}

#[derive(Clone, Copy, Default)]
struct Passage {
    hangs: bool,
    /// What the server sends is held back, and nothing else.
    answers_hang: bool,
    delay: Duration,
}

impl Proxy {
    /// Starts a proxy in front of an address, such as `127.0.0.1:6379`. Nobody needs to listen there yet.
    pub async fn start(target: impl ToString) -> Self {
        let (passage, _) = watch::channel(Passage::default());
        let network = Arc::new(Network { target: target.to_string(), passage, left: Mutex::new(None) });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut proxy = Self { address, network, listening: None };
        proxy.listen().await;
        proxy
    }

    /// Where clients connect; it stays the same.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and refuses new ones, from when this returns.
    pub async fn cut(&mut self) {
        if let Some(Listening { task, end }) = self.listening.take() {
            // It fails where the task has ended, which is what is wanted.
            let _ended = end.send(());
            task.await.expect("the proxy does not panic");
        }
    }

    /// All is as it was at the start. What was held back goes on its way.
    pub async fn mend(&mut self) {
        self.network.limit(None);
        self.network.passage.send_replace(Passage::default());
        self.listen().await;
    }

    /// Accepts and keeps connections, and forwards nothing in either direction, not even that a side has ended.
    pub async fn hang(&mut self) {
        self.network.passage.send_modify(|passage| passage.hangs = true);
        self.listen().await;
    }

    /// Forwards what clients send, and holds back what the server answers: a request is carried out, and nobody knows.
    pub async fn hold_answers(&mut self) {
        self.network.passage.send_modify(|passage| passage.answers_hang = true);
        self.listen().await;
    }

    /// Each chunk is held for this long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.network.passage.send_modify(|passage| passage.delay = delay);
    }

    /// This many bytes pass, of all connections and both directions together; the connection of the byte after them is
    /// reset in its place, on both sides. Once: the others and later ones live.
    ///
    /// After the bytes of a request, that is before the answer to it: it was carried out, and the client does not know.
    pub fn reset_after(&self, bytes: usize) {
        self.network.limit(Some(bytes));
    }

    async fn listen(&mut self) {
        if self.listening.is_none() {
            let listener = TcpListener::bind(self.address)
                .await
                .unwrap_or_else(|error| panic!("the proxy cannot have {}: {error}", self.address));
            let (end, ended) = oneshot::channel();
            let task = tokio::spawn(accept(listener, self.network.clone(), ended));
            self.listening = Some(Listening { task, end });
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(Listening { task, .. }) = &self.listening {
            // Its connections go with it.
            task.abort();
        }
    }
}

impl Network {
    /// Waits until a chunk that has just been read may pass; `answer`: from the server.
    async fn pass(&self, answer: bool) {
        let read = Instant::now();
        let mut passage = self.passage.subscribe();
        loop {
            let Passage { hangs, answers_hang, delay } = *passage.borrow_and_update();
            // What changes meanwhile holds for this chunk as well.
            if hangs || answer && answers_hang {
                passage.changed().await.expect("its sender is here");
            } else if timeout_at(read + delay, passage.changed()).await.is_err() {
                return;
            }
        }
    }

    /// How many of these bytes may pass before the connection is reset.
    fn take(&self, bytes: usize) -> usize {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(may) = *left else { return bytes };
        *left = may.checked_sub(bytes);
        bytes.min(may)
    }

    fn limit(&self, bytes: Option<usize>) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

async fn accept(listener: TcpListener, network: Arc<Network>, mut ended: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut ended => break,
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(carry(client, network.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn carry(mut client: TcpStream, network: Arc<Network>) {
    network.pass(false).await;
    // A server that is down shows as a connection that ends at once.
    let Ok(mut server) = TcpStream::connect(&network.target).await else { return };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let carried =
        tokio::try_join!(pump(from_client, to_server, &network, false), pump(from_server, to_client, &network, true))
            .is_ok();
    if !carried {
        for stream in [&client, &server] {
            // It fails for a connection that is gone already.
            let _gone = stream.set_zero_linger();
        }
    }
}

/// Forwards one direction until its end. An error is for both sides to see as a reset.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, network: &Network, answers: bool) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await;
        network.pass(answers).await;
        let bytes = read?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        let may = network.take(bytes);
        to.write_all(&chunk[..may]).await?;
        if may < bytes {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
}
