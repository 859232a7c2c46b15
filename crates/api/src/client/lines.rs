//! Lines of a streamed answer, bounded in length and in silence.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use reqwest::{Response, StatusCode};

use super::unpacking::Unpacking;
use super::{Client, ClientError};

/// The longest line: a route with every host and limit is a few kilobytes, a certificate bundle 64.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The lines of one streamed answer.
pub(super) struct Lines {
    client: Client,
    response: Response,
    unpacking: Unpacking,
    /// What arrived and is not unpacked yet.
    packed: Bytes,
    buffer: BytesMut,
    /// How much of the buffer was searched for a line end already.
    searched: usize,
    idle_timeout: Duration,
}

impl Lines {
    /// Fails where the answer comes in a coding that nobody can read.
    pub(super) fn new(client: Client, response: Response) -> Result<Self, ClientError> {
        let idle_timeout = client.config.idle_timeout;
        let unpacking =
            Unpacking::of(&response).map_err(|error| client.unexpected(StatusCode::OK, &error.to_string()))?;
        let (packed, buffer) = (Bytes::new(), BytesMut::new());
        Ok(Self { client, response, unpacking, packed, buffer, searched: 0, idle_timeout })
    }

    /// The next line without its end; `None` once the server has closed the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(position) = memchr(b'\n', &self.buffer[self.searched..]) {
                let mut line = self.buffer.split_to(self.searched + position).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(self.unexpected("a line of the stream has no end"));
            }
            if !self.packed.is_empty() {
                let unpacked = self.unpacking.step(&mut self.packed, &mut self.buffer);
                unpacked.map_err(|_| self.unexpected("the stream is not packed as it says"))?;
                continue;
            }
            let chunk = tokio::time::timeout(self.idle_timeout, self.response.chunk()).await;
            let chunk = chunk.map_err(|source| self.client.unreachable(source))?;
            match chunk.map_err(|source| self.client.unreachable(source))? {
                Some(chunk) => self.packed = chunk,
                None => return Ok(None),
            }
        }
    }

    /// The stream says something that the contract does not know.
    pub(super) fn unexpected(&self, detail: &str) -> ClientError {
        self.client.unexpected(StatusCode::OK, detail)
    }
}

/// One server-sent event.
pub(super) struct ServerSentEvent {
    /// What it bears.
    pub(super) data: String,
}

impl Lines {
    /// The next server-sent event; comments (keep-alives) are passed over.
    pub(super) async fn next_event(&mut self) -> Result<Option<ServerSentEvent>, ClientError> {
        let mut data: Option<String> = None;
        while let Some(line) = self.next().await? {
            let line = std::str::from_utf8(&line).map_err(|_| self.unexpected("an event is no UTF-8"))?;
            if line.is_empty() {
                if let Some(data) = data.take() {
                    return Ok(Some(ServerSentEvent { data }));
                }
            } else if let Some(value) = line.strip_prefix("data:") {
                let value = value.strip_prefix(' ').unwrap_or(value);
                let data = data.get_or_insert_default();
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value);
                if data.len() > LINE_BYTES_MAX {
                    return Err(self.unexpected("an event has no end"));
                }
            }
        }
        Ok(None)
    }
}
