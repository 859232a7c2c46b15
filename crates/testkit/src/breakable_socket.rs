//! A TCP relay in front of a server that fails on demand.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Chunks under way in one direction of one connection; beyond it the sender is held back.
const CHUNKS_UNDER_WAY: usize = 256;
const CHUNK: usize = 16 * 1024;

/// Clients connect to [`address`](Self::address) and reach the target, until told otherwise. Lives on the runtime that
/// it was made on; dropping it cuts every connection.
#[derive(Debug)]
pub struct BreakableSocket {
    address: SocketAddr,
    control: Arc<Control>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Control {
    target: Mutex<SocketAddr>,
    state: watch::Sender<State>,
    trap: Mutex<Option<Trap>>,
    sprung: watch::Sender<usize>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct State {
    held: bool,
    limit: usize,
    to_server: Duration,
    to_client: Duration,
    /// Rises with each cut; a connection ends when it sees another number than at its start.
    cuts: u64,
}

/// What happens to the next piece of a reply that holds these bytes.
#[derive(Debug)]
struct Trap {
    needle: Vec<u8>,
    forward: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl BreakableSocket {
    /// A relay in front of `target` on a port of 127.0.0.1 that the kernel chooses.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on 127.0.0.1");
        let address = listener.local_addr().expect("the address of a listener");
        let state =
            State { held: false, limit: usize::MAX, to_server: Duration::ZERO, to_client: Duration::ZERO, cuts: 0 };
        let control = Arc::new(Control {
            target: Mutex::new(target),
            state: watch::Sender::new(state),
            trap: Mutex::new(None),
            sprung: watch::Sender::new(0),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let listening = tokio::spawn(accept(listener, Arc::clone(&control)));
        Self { address, control, listening }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another server, such as one that was started again elsewhere.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.control.target() = target;
    }

    /// Resets every open connection, on both sides. New ones pass.
    pub fn cut(&self) {
        self.control.state.send_modify(|state| state.cuts += 1);
    }

    /// Resets every open connection and every new one, until [`come_up`](Self::come_up).
    pub fn go_down(&self) {
        self.control.state.send_modify(|state| {
            state.limit = 0;
            state.cuts += 1;
        });
    }

    /// Ends [`go_down`](Self::go_down) and [`limit`](Self::limit).
    pub fn come_up(&self) {
        self.limit(usize::MAX);
    }

    /// Resets new connections while this many are open.
    pub fn limit(&self, open: usize) {
        self.control.state.send_modify(|state| state.limit = open);
    }

    /// Lets nothing through in either direction; connections stay open, new ones are accepted.
    pub fn hold(&self) {
        self.control.state.send_modify(|state| state.held = true);
    }

    /// Ends [`hold`](Self::hold): what was sent meanwhile arrives.
    pub fn release(&self) {
        self.control.state.send_modify(|state| state.held = false);
    }

    /// Delays what is sent from now on, each direction by its own time. Many pieces may be under way at once, as on a
    /// long line.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        self.control.state.send_modify(|state| {
            state.to_server = to_server;
            state.to_client = to_client;
        });
    }

    /// The next thing that the server says on any connection never arrives: the connection is reset instead.
    pub fn lose_next_reply(&self) {
        self.lose_reply_with("");
    }

    /// Like [`lose_next_reply`](Self::lose_next_reply), for the next reply that holds these bytes, such as
    /// `CREATE DATABASE`. Other replies pass.
    pub fn lose_reply_with(&self, needle: impl AsRef<[u8]>) {
        self.set_trap(needle.as_ref(), false);
    }

    /// The next reply that holds these bytes arrives, and then the connection ends.
    pub fn cut_after_reply_with(&self, needle: impl AsRef<[u8]>) {
        self.set_trap(needle.as_ref(), true);
    }

    /// How many replies were lost or were the last of their connection so far.
    pub fn sprung(&self) -> usize {
        *self.control.sprung.borrow()
    }

    /// Waits until [`sprung`](Self::sprung) is at least this.
    pub async fn wait_sprung(&self, count: usize) {
        // The sender lives as long as `self`.
        let _ = self.control.sprung.subscribe().wait_for(|sprung| *sprung >= count).await;
    }

    /// How many connections were accepted so far, reset ones included.
    pub fn accepted(&self) -> usize {
        self.control.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.control.open.load(Ordering::SeqCst)
    }

    fn set_trap(&self, needle: &[u8], forward: bool) {
        *self.control.trap() = Some(Trap { needle: needle.to_vec(), forward });
    }
}

impl Drop for BreakableSocket {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

impl Control {
    fn target(&self) -> std::sync::MutexGuard<'_, SocketAddr> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trap(&self) -> std::sync::MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the trap if `reply` springs it, and says whether this piece is still to be forwarded.
    fn spring(&self, reply: &[u8]) -> Option<bool> {
        let mut trap = self.trap();
        let forward = trap
            .as_ref()
            .filter(|trap| trap.needle.is_empty() || reply.windows(trap.needle.len()).any(|w| w == trap.needle))?
            .forward;
        *trap = None;
        Some(forward)
    }

    fn needle_length(&self) -> usize {
        self.trap().as_ref().map_or(0, |trap| trap.needle.len())
    }

    async fn wait_released(&self) {
        let _ = self.state.subscribe().wait_for(|state| !state.held).await;
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        control.accepted.fetch_add(1, Ordering::SeqCst);
        let state = *control.state.borrow();
        if control.open.load(Ordering::SeqCst) >= state.limit {
            reset(&client);
            continue;
        }
        control.open.fetch_add(1, Ordering::SeqCst);
        let control = Arc::clone(&control);
        let target = *control.target();
        tokio::spawn(async move {
            relay(client, target, &control, state.cuts).await;
            control.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, control: &Control, cuts: u64) {
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(&client) };
    for stream in [&client, &server] {
        // Without it the relay would add delays of its own.
        let _ = stream.set_nodelay(true);
    }
    let mut state = control.state.subscribe();
    let outcome = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            outcome = async {
                tokio::try_join!(
                    pump(from_client, to_server, Direction::ToServer, control),
                    pump(from_server, to_client, Direction::ToClient, control),
                )
            } => outcome.map(|_| ()),
            _ = state.wait_for(|state| state.cuts != cuts) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    match outcome {
        Ok(()) => {}
        // The last reply shall arrive: a reset could overtake it.
        Err(error) if error.kind() == io::ErrorKind::WriteZero => reset(&server),
        Err(_) => {
            reset(&client);
            reset(&server);
        }
    }
}

/// Carries one direction. `WriteZero` as an error means that a reply was the connection's last.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    control: &Control,
) -> io::Result<()> {
    let (queue, mut under_way) = mpsc::channel::<(Instant, Vec<u8>, bool)>(CHUNKS_UNDER_WAY);
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        let mut earlier = Vec::new();
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let mut last = false;
            if direction == Direction::ToClient {
                earlier.extend_from_slice(&buffer[..length]);
                if let Some(forward) = control.spring(&earlier) {
                    control.sprung.send_modify(|sprung| *sprung += 1);
                    if !forward {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    last = true;
                }
                // A needle may stand across two pieces.
                earlier.drain(..earlier.len().saturating_sub(control.needle_length()));
            }
            let state = *control.state.borrow();
            let delay = if direction == Direction::ToServer { state.to_server } else { state.to_client };
            if queue.send((Instant::now() + delay, buffer[..length].to_vec(), last)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, chunk, last)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            control.wait_released().await;
            to.write_all(&chunk).await?;
            if last {
                to.shutdown().await?;
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        // The other direction may go on: a half-closed connection stays half closed.
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}

fn reset(stream: &TcpStream) {
    // Closing with nothing to linger for sends RST instead of FIN.
    let _ = stream.set_zero_linger();
}
