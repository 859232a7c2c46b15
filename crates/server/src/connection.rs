//! One TCP connection: counted, and ended when its reader stops reading.
//!
//! The limit of time is on the socket and not on a handler, because only the socket knows that nothing gets through: a
//! stream whose reader sleeps is not asked for its next item, so it could not notice by itself.

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as ready_or_pending};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Lets connections in while there is room; past the limit a new one is closed at once.
#[derive(Debug, Clone)]
pub(crate) struct Doorkeeper {
    room: Arc<Semaphore>,
    write_timeout: Duration,
}

impl Doorkeeper {
    pub(crate) fn new(connections_max: usize, write_timeout: Duration) -> Self {
        Self { room: Arc::new(Semaphore::new(connections_max)), write_timeout }
    }
}

impl<S> Accept<TcpStream, S> for Doorkeeper {
    type Stream = Connection<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            metrics::counter!("tenantry_http_connections_refused_total").increment(1);
            return ready(Err(io::Error::other("there are as many connections as configured")));
        };
        // Answers are small and written whole: waiting for more to send would only delay them.
        ready(stream.set_nodelay(true).map(|()| (Connection::new(stream, Some(place), self.write_timeout), service)))
    }
}

/// A socket whose writes must get through within the limit.
#[derive(Debug)]
pub(crate) struct Connection<I> {
    io: I,
    write_timeout: Duration,
    /// Runs while a write waits for the reader; absent otherwise, so that an idle connection has no timer.
    waiting: Option<Pin<Box<Sleep>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<I> Connection<I> {
    fn new(io: I, place: Option<OwnedSemaphorePermit>, write_timeout: Duration) -> Self {
        Self { io, write_timeout, waiting: None, _place: place }
    }

    fn in_time<T>(&mut self, progress: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        let limit = self.write_timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready_or_pending!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what is sent to it")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write(context, bytes);
        self.in_time(progress, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.in_time(progress, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.io).poll_flush(context);
        self.in_time(progress, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.io).poll_shutdown(context);
        self.in_time(progress, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_reading_is_disconnected() {
        let (ours, _theirs) = tokio::io::duplex(8);
        let mut connection = Connection::new(ours, None, Duration::from_secs(30));
        let failure = connection.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for_as_long_as_it_reads() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let reader = tokio::spawn(async move {
            let mut seen = [0; 8];
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                theirs.read_exact(&mut seen).await.expect("eight bytes");
            }
        });
        let mut connection = Connection::new(ours, None, Duration::from_secs(30));
        connection.write_all(&[0; 64]).await.expect("the reader is slow, not gone");
        reader.await.expect("all was read");
    }
}
