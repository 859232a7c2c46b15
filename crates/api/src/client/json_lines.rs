//! An answer of one JSON value in each line.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::ClientError;
use super::lines::Lines;

/// The lines of an answer, as they come.
pub struct JsonLines<T> {
    lines: Lines,
    line: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines, line: PhantomData }
    }

    /// The next line; `None` once the server has closed the stream. One that ends without a summary broke off. Empty lines,
    /// which only say that the server is still there, are passed over.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let Some(line) = self.lines.next().await? else { return Ok(None) };
            if line.is_empty() {
                continue;
            }
            let read = serde_json::from_slice(&line);
            return read.map(Some).map_err(|error| self.lines.unexpected(&error.to_string()));
        }
    }
}
