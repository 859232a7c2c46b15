//! Connections on their way back, with the task that drives them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::future::{block_on, spawn};
use shuttle::sync::mpsc;
use shuttle::thread;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::budget::Budget;
use crate::pool::returning::give_back;
use crate::session::Session;
use crate::session::driver::Driver;
use crate::session::stream::Watched;
use crate::sync::{Mutex, Ordering};
use crate::world::{HomeConnection, Object, TenantPool};

pub(crate) const MODELS: &[(&str, fn())] = &[
    ("parking::an_answered_request_gives_the_connection_back_once", an_answered_request_gives_the_connection_back_once),
    ("parking::a_request_that_nobody_waits_for_is_seen_off_first", a_request_that_nobody_waits_for_is_seen_off_first),
    ("parking::a_connection_that_ends_is_closed_once", a_connection_that_ends_is_closed_once),
];

const STARTUP: &[u8] = b"\0\0\0\x08\0\0\0\0";
const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";
const REPLY: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

/// What a client, its driver and the server share.
#[derive(Default)]
struct Line {
    requests: Mutex<VecDeque<oneshot::Sender<()>>>,
    incoming: Mutex<VecDeque<u8>>,
    waker: Mutex<Option<Waker>>,
    has_ended: Mutex<bool>,
}

impl Line {
    fn wake(&self) {
        let waker = self.waker.lock().unwrap().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Queues a request, as a client does: what it sends is in no byte yet.
    fn ask(&self, pool: &TenantPool) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        pool.pool.unanswered().fetch_add(1, Ordering::SeqCst);
        self.requests.lock().unwrap().push_back(answer);
        self.wake();
        answered
    }

    fn end(&self) {
        *self.has_ended.lock().unwrap() = true;
        self.wake();
    }
}

struct Wire(Arc<Line>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let bytes: Vec<u8> = self.0.incoming.lock().unwrap().drain(..).collect();
        if bytes.is_empty() {
            return Poll::Pending;
        }
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What tokio-postgres does when it is polled: answers first, then requests.
struct Connection {
    line: Arc<Line>,
    wire: Watched<Wire>,
    server: mpsc::Sender<()>,
    asked: VecDeque<oneshot::Sender<()>>,
    pool: Arc<TenantPool>,
}

impl Future for Connection {
    type Output = Result<(), tokio_postgres::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        *this.line.waker.lock().unwrap() = Some(context.waker().clone());
        if *this.line.has_ended.lock().unwrap() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 256];
        let mut buffer = ReadBuf::new(&mut bytes);
        while Pin::new(&mut this.wire).poll_read(context, &mut buffer).is_ready() {
            for _ in 0..buffer.filled().len() / REPLY.len() {
                this.pool.pool.unanswered().fetch_sub(1, Ordering::SeqCst);
                let _ = this.asked.pop_front().expect("an answer to a request").send(());
            }
            buffer.clear();
        }
        loop {
            let Some(request) = this.line.requests.lock().unwrap().pop_front() else { return Poll::Pending };
            assert!(Pin::new(&mut this.wire).poll_write(context, QUERY).is_ready());
            this.asked.push_back(request);
            let _ = this.server.send(());
        }
    }
}

/// A pool with one connection, in use.
struct Scene {
    pool: Arc<TenantPool>,
    line: Arc<Line>,
    object: Object,
    driver: shuttle::future::JoinHandle<()>,
    server: thread::JoinHandle<()>,
}

impl Scene {
    fn new() -> Self {
        let budget = Arc::new(Budget::default());
        let pool = TenantPool::new(&budget);
        let (line, session): (Arc<Line>, Arc<Session>) = Default::default();
        let mut wire = Watched::new(Wire(Arc::clone(&line)), Arc::clone(&session));
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut wire).poll_write(&mut context, STARTUP).is_ready());
        let (sender, receiver) = mpsc::channel();
        let connection = Connection {
            line: Arc::clone(&line),
            wire,
            server: sender,
            asked: VecDeque::new(),
            pool: Arc::clone(&pool),
        };
        let permit = pool.share.permit().expect("no limit");
        let driver = spawn(Driver::new(connection, Arc::clone(&session), permit));
        let server = thread::spawn({
            let line = Arc::clone(&line);
            move || {
                while receiver.recv().is_ok() {
                    line.incoming.lock().unwrap().extend(REPLY);
                    line.wake();
                }
            }
        });
        let (asking, of) = (Arc::clone(&line), Arc::downgrade(&pool));
        let cleaner: crate::world::Cleaner = Arc::new(move || {
            let (line, pool) = (Arc::clone(&asking), of.upgrade());
            Box::pin(async move {
                let Some(pool) = pool else { return false };
                if *line.has_ended.lock().unwrap() {
                    return false;
                }
                line.ask(&pool).await.is_ok()
            })
        });
        let object = pool.pool.open(HomeConnection { session, cleaner: Some(cleaner), permit: None });
        Self { pool, line, object, driver, server }
    }

    /// Nothing is on its way any more, and everything ends.
    fn end(
        pool: &Arc<TenantPool>,
        line: &Line,
        driver: shuttle::future::JoinHandle<()>,
        server: thread::JoinHandle<()>,
    ) {
        line.end();
        block_on(driver).expect("no panic");
        server.join().expect("no panic");
        // The task that cleaned it may still be about to say that it is back. Without an end the model runs out of steps.
        while Arc::strong_count(&pool.returning) > 1 {
            thread::yield_now();
        }
    }
}

fn an_answered_request_gives_the_connection_back_once() {
    let Scene { pool, line, mut object, driver, server } = Scene::new();
    for _ in 0..2 {
        block_on(line.ask(&pool)).expect("answered");
        give_back(object, Arc::clone(&pool));
        object = block_on(pool.pool.next()).expect("it comes back");
        assert_eq!(pool.pool.status().size, 1);
    }
    drop(object);
    Scene::end(&pool, &line, driver, server);
    assert_eq!((pool.pool.status().available, pool.pool.status().size), (1, 1));
}

fn a_request_that_nobody_waits_for_is_seen_off_first() {
    let Scene { pool, line, mut object, driver, server } = Scene::new();
    for _ in 0..3 {
        // The driver is still at work when the answer is there.
        block_on(line.ask(&pool)).expect("answered");
        drop(line.ask(&pool));
        give_back(object, Arc::clone(&pool));
        object = block_on(pool.pool.next()).expect("it comes back");
        assert_eq!(pool.pool.unanswered().load(Ordering::SeqCst), 0, "it is busy");
    }
    drop(object);
    Scene::end(&pool, &line, driver, server);
}

fn a_connection_that_ends_is_closed_once() {
    let Scene { pool, line, object, driver, server } = Scene::new();
    let ending = thread::spawn({
        let line = Arc::clone(&line);
        move || line.end()
    });
    give_back(object, Arc::clone(&pool));
    // Given back just before it ended, or closed; in no case lost with the driver.
    let object = block_on(pool.pool.next());
    ending.join().expect("no panic");
    drop(object);
    Scene::end(&pool, &line, driver, server);
    let status = pool.pool.status();
    assert_eq!(status.available, status.size);
}
