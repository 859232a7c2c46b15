//! Sending one call: attempts, timeouts, and reading the answer.

use std::fmt;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError};
use crate::problem::Problem;

/// An answer larger than this is none of ours: a page of 500 of the largest objects stays below.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The first pause between attempts; it doubles up to [`PAUSE_MAX`], and each is drawn between half and all of it.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A value with the version that `If-Match` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// The value.
    pub value: T,
    /// Its version, if the server told it.
    pub etag: Option<String>,
}

/// One part of a path. `Sync`, so that calls can be awaited in spawned tasks.
type Segment<'a> = &'a (dyn fmt::Display + Sync);

/// One call before it is sent.
pub(super) struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    content_type: &'static str,
    key: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    accept: &'static str,
    is_packed: bool,
    last_event_id: Option<String>,
    wait: Duration,
    is_repeatable: bool,
}

impl Call {
    fn new(method: Method, path: &[Segment<'_>]) -> Self {
        Self {
            method,
            path: path.iter().map(ToString::to_string).collect(),
            query: Vec::new(),
            body: None,
            content_type: "application/json",
            key: None,
            if_match: None,
            if_none_match: None,
            accept: "application/json",
            is_packed: false,
            last_event_id: None,
            wait: Duration::ZERO,
            is_repeatable: false,
        }
    }

    pub(super) fn get(path: &[Segment<'_>]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: &[Segment<'_>]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn patch(path: &[Segment<'_>]) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub(super) fn put(path: &[Segment<'_>]) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(super) fn delete(path: &[Segment<'_>]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds the fields of a query struct that are present.
    pub(super) fn query(mut self, query: &impl Serialize) -> Result<Self, ClientError> {
        let fail = |source| ClientError::refused("the query cannot be written", source);
        if let serde_json::Value::Object(fields) = serde_json::to_value(query).map_err(fail)? {
            for (name, value) in fields {
                match value {
                    serde_json::Value::Null => {}
                    serde_json::Value::String(text) => self.query.push((name, text)),
                    other => self.query.push((name, other.to_string())),
                }
            }
        }
        Ok(self)
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        let fail = |source| ClientError::refused("the request cannot be written as JSON", source);
        self.body = Some(serde_json::to_vec(body).map_err(fail)?);
        Ok(self)
    }

    /// A body that is no JSON.
    pub(super) fn body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.content_type = content_type;
        self.body = Some(body);
        self
    }

    /// The caller's own key.
    pub(super) fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub(super) fn wait(mut self, wait: Option<crate::WaitSeconds>) -> Self {
        if let Some(wait) = wait {
            self.query.push(("wait".to_owned(), wait.get().to_string()));
            self.wait = wait.as_duration();
        }
        self
    }

    /// The call says the same each time, so that it needs no key that the server would have to remember.
    pub(super) fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    pub(super) fn if_match(mut self, etag: Option<&str>) -> Self {
        self.if_match = etag.map(str::to_owned);
        self
    }

    pub(super) fn if_none_match(mut self, etag: &str) -> Self {
        self.if_none_match = Some(etag.to_owned());
        self
    }

    pub(super) fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = media_type;
        self
    }

    /// The answer may come packed, for a reader that unpacks it.
    pub(super) fn packed(mut self) -> Self {
        self.is_packed = true;
        self
    }

    pub(super) fn last_event_id(mut self, id: Option<i64>) -> Self {
        self.last_event_id = id.map(|id| id.to_string());
        self
    }
}

impl Client {
    /// Sends a call and reads its answer.
    pub(super) async fn send<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        self.send_tagged(call).await.map(|tagged| tagged.value)
    }

    /// As [`Self::send`], with the answer's `ETag`.
    pub(super) async fn send_tagged<T: DeserializeOwned>(&self, call: Call) -> Result<Tagged<T>, ClientError> {
        let (status, headers, body) = self.attempt(&call).await?;
        self.tagged(status, &headers, &body)
    }

    /// As [`Self::send_tagged`]; nothing where the caller's version still holds.
    pub(super) async fn send_unless_known<T: DeserializeOwned>(
        &self,
        call: Call,
    ) -> Result<Option<Tagged<T>>, ClientError> {
        let (status, headers, body) = self.attempt(&call).await?;
        if status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        self.tagged(status, &headers, &body).map(Some)
    }

    fn tagged<T: DeserializeOwned>(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Tagged<T>, ClientError> {
        let value = serde_json::from_slice(body).map_err(|error| self.unexpected(status, &error.to_string()))?;
        let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        Ok(Tagged { value, etag })
    }

    /// Sends a call whose answer has no body.
    pub(super) async fn send_for_nothing(&self, call: Call) -> Result<(), ClientError> {
        self.attempt(&call).await.map(|_| ())
    }

    /// Opens a stream. Not retried: whoever reads a stream knows where to resume. Only the head has a timeout here.
    pub(super) async fn open(&self, call: Call) -> Result<Response, ClientError> {
        let request = self.build(&call, None)?;
        let sending = tokio::time::timeout(self.config.request_timeout, self.http.execute(request));
        let response = sending.await.map_err(|source| self.unreachable(source))?;
        let response = response.map_err(|source| self.unreachable(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers, body) = self.read(response).await?;
        Err(self.failure(status, &headers, &body))
    }

    async fn attempt(&self, call: &Call) -> Result<(StatusCode, HeaderMap, Vec<u8>), ClientError> {
        // One key for all attempts: the server answers a repetition with what it answered first.
        let needs_key = call.method == Method::POST && !call.is_repeatable;
        let key = needs_key.then(|| uuid::Uuid::now_v7().to_string());
        let mut pause = PAUSE_FIRST;
        for attempt in 0.. {
            let failure = match self.once(call, key.as_deref()).await {
                Ok((status, headers, body)) if status.is_success() || status == StatusCode::NOT_MODIFIED => {
                    return Ok((status, headers, body));
                }
                Ok((status, headers, body)) => self.failure(status, &headers, &body),
                Err(failure) => failure,
            };
            if attempt >= self.config.retries || !may_repeat(&call.method, &failure) {
                return Err(failure);
            }
            let asked_for = failure.retry_after().unwrap_or_default().min(PAUSE_MAX);
            let drawn = pause.mul_f64(rand::random_range(0.5..1.0));
            tracing::debug!(attempt, method = %call.method, error = %failure, "a call is repeated");
            tokio::time::sleep(drawn.max(asked_for)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        unreachable!("the loop returns")
    }

    async fn once(&self, call: &Call, key: Option<&str>) -> Result<(StatusCode, HeaderMap, Vec<u8>), ClientError> {
        let request = self.build(call, key)?;
        let exchange = async {
            let response = self.http.execute(request).await.map_err(|source| self.unreachable(source))?;
            self.read(response).await
        };
        let limit = self.config.request_timeout + call.wait;
        tokio::time::timeout(limit, exchange).await.map_err(|source| self.unreachable(source))?
    }

    fn build(&self, call: &Call, key: Option<&str>) -> Result<reqwest::Request, ClientError> {
        let mut url = self.config.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = self.http.request(call.method.clone(), url).header(ACCEPT, call.accept);
        if call.is_packed {
            request = request.header(ACCEPT_ENCODING, "gzip");
        }
        if let Some(token) = &self.config.token {
            let text = format!("Bearer {}", token.expose());
            let mut value = HeaderValue::from_str(&text)
                .map_err(|source| ClientError::refused("the token has characters that no token has", source))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(key) = call.key.as_deref().or(key) {
            request = request.header("idempotency-key", key);
        }
        if let Some(etag) = &call.if_match {
            request = request.header(IF_MATCH, etag);
        }
        if let Some(etag) = &call.if_none_match {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(id) = &call.last_event_id {
            request = request.header("last-event-id", id);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, call.content_type).body(body.clone());
        }
        request.build().map_err(|source| ClientError::refused("the request cannot be built", source))
    }

    async fn read(&self, mut response: Response) -> Result<(StatusCode, HeaderMap, Vec<u8>), ClientError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.unreachable(source))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.unexpected(status, "it is larger than any answer"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, headers, body))
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ClientError {
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => {
                ClientError::Problem { problem: Box::new(problem), retry_after: retry_after.map(Duration::from_secs) }
            }
            Err(_) => self.unexpected(status, "it bears no problem document"),
        }
    }

    pub(super) fn unexpected(&self, status: StatusCode, detail: &str) -> ClientError {
        ClientError::Unexpected {
            url: self.config.url.to_string(),
            status: status.as_u16(),
            detail: detail.chars().take(200).collect(),
        }
    }

    pub(super) fn unreachable(&self, source: impl std::error::Error + Send + Sync + 'static) -> ClientError {
        ClientError::Unreachable { url: self.config.url.to_string(), source: Box::new(source) }
    }
}

/// A GET and a POST (which has its key) may be repeated whatever happened. A PATCH or DELETE may be repeated only where
/// the first certainly did nothing: the connection was never made, or the server says that it did not begin.
fn may_repeat(method: &Method, failure: &ClientError) -> bool {
    if !failure.is_retryable() {
        return false;
    }
    if *method == Method::GET || *method == Method::POST {
        return true;
    }
    match failure {
        ClientError::Problem { .. } => true,
        ClientError::Unreachable { source, .. } => {
            source.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
        }
        ClientError::Refused { .. } | ClientError::Unexpected { .. } => false,
    }
}
