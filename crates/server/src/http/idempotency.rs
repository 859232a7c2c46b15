//! `Idempotency-Key`: a POST that is sent twice is done once.
//!
//! Only answers of success are kept, for 24 hours. A request that was refused changed nothing, so its repetition is
//! looked at anew: whoever mends the cause (a scope, a cluster without room) may send it again under the same key.
//! The work goes on when the caller hangs up; otherwise a lost connection would leave a key that is neither done nor free.

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tenantry_api::Code;
use tenantry_control::idempotency::{self, Known};
use tenantry_control::{Caller, Control};
use tracing::{Instrument, Span, warn};

use super::extract;
use super::limits::{time_limit, too_slow};
use super::problem::{Refusal, chain};
use super::state::Shared;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set on an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEY_BYTES_MAX: usize = 255;
/// Answers to a POST are objects or migration sets without their SQL.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Stands in a response that must not be kept because a secret is in it; says what a repetition is told instead.
#[derive(Debug, Clone)]
pub(crate) struct ShownOnce(pub(crate) String);

/// Middleware for every route whose POST is worth remembering.
pub(crate) async fn once(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let key = if request.method() == Method::POST { key(request.headers())? } else { None };
    let Some(key) = key else { return Ok(next.run(request).await) };
    let (parts, body) = request.into_parts();
    let body = extract::body(Request::from_parts(parts.clone(), body), &()).await?;
    let attempt = Attempt {
        hash: hash(&parts.method, &parts.uri, &body),
        request: Request::from_parts(parts, Body::from(body)),
        control: shared.control().clone(),
        caller,
        key,
    };
    let limit = time_limit(&shared, attempt.request.uri());
    let cut_off = shared.cut_off().clone();
    let working = async move { cut_off.run_until_cancelled_owned(attempt.work(next, limit)).await };
    match shared.tasks().spawn(working.instrument(Span::current())).await {
        Ok(Some(outcome)) => outcome,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Ok(None) | Err(_) => Err(too_slow()),
    }
}

/// One request under a key.
struct Attempt {
    control: Control,
    caller: Caller,
    key: String,
    hash: [u8; 32],
    request: Request,
}

impl Attempt {
    async fn work(self, next: Next, limit: std::time::Duration) -> Result<Response, Refusal> {
        let Self { control, caller, key, hash, request } = self;
        if let Known::Done { status, body } = idempotency::begin(&control, &caller, &key, hash).await? {
            return replay(status, &body);
        }
        let held = Held { control, caller, key, settled: false };
        let response = match tokio::time::timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => too_slow().into_response(),
        };
        held.settle(response).await
    }
}

/// A key that this request holds. A panic frees it too.
struct Held {
    control: Control,
    caller: Caller,
    key: String,
    settled: bool,
}

impl Held {
    async fn settle(mut self, response: Response) -> Result<Response, Refusal> {
        self.settled = true;
        let Self { control, caller, key, .. } = &self;
        if !response.status().is_success() {
            free(control, caller, key).await;
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(Refusal::internal)?;
        let kept = match parts.extensions.get::<ShownOnce>() {
            Some(ShownOnce(instead)) => Kept::ShownOnce { instead: instead.clone() },
            None => Kept::answer(&parts.headers, &body)?,
        };
        let kept = serde_json::to_vec(&kept).map_err(Refusal::internal)?;
        if let Err(error) = idempotency::finish(control, caller, key, parts.status.as_u16(), &kept).await {
            // What was asked for is done. The key stays taken, so a repetition is refused and not done again.
            warn!(error = %chain(&error), "an answer could not be kept for its idempotency key");
        }
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let (control, caller, key) = (self.control.clone(), self.caller.clone(), std::mem::take(&mut self.key));
        tokio::spawn(async move { free(&control, &caller, &key).await });
    }
}

async fn free(control: &Control, caller: &Caller, key: &str) {
    if let Err(error) = idempotency::abandon(control, caller, key).await {
        warn!(error = %chain(&error), "an idempotency key could not be freed; it is forgotten after 24 hours");
    }
}

/// What is kept of an answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kept {
    /// The answer itself.
    Answer { location: Option<String>, etag: Option<String>, body: String },
    /// It bore a secret, which is kept nowhere.
    ShownOnce { instead: String },
}

impl Kept {
    fn answer(headers: &HeaderMap, body: &Bytes) -> Result<Self, Refusal> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        let body = String::from_utf8(body.to_vec()).map_err(Refusal::internal)?;
        Ok(Self::Answer { location: text(LOCATION), etag: text(ETAG), body })
    }
}

fn replay(status: u16, kept: &[u8]) -> Result<Response, Refusal> {
    match serde_json::from_slice(kept).map_err(Refusal::internal)? {
        Kept::ShownOnce { instead } => Err(Refusal::new(Code::Conflict, instead)),
        Kept::Answer { location, etag, body } => {
            let is_empty = body.is_empty();
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).map_err(Refusal::internal)?;
            let headers = response.headers_mut();
            for (name, value) in [(LOCATION, location), (ETAG, etag)] {
                if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                    headers.insert(name, value);
                }
            }
            if !is_empty {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
    }
}

/// The key of a request, if it bears one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let refuse = || Refusal::invalid("Idempotency-Key", "send one key of 1 to 255 visible ASCII characters");
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| refuse())?;
            let is_key = (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            if is_key { Ok(Some(text.to_owned())) } else { Err(refuse()) }
        }
        (Some(_), Some(_)) => Err(refuse()),
    }
}

/// What makes two requests the same: method, path, query and body. How long to wait for the outcome is no part of
/// what is asked for: a caller may repeat with more patience.
fn hash(method: &Method, uri: &Uri, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        // With its length, so that no two lists of parts run together.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    add(method.as_str().as_bytes());
    add(uri.path().as_bytes());
    for pair in uri.query().unwrap_or_default().split('&') {
        if !pair.is_empty() && !pair.starts_with("wait=") {
            add(pair.as_bytes());
        }
    }
    add(body);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(path: &'static str, body: &str) -> [u8; 32] {
        hash(&Method::POST, &Uri::from_static(path), body.as_bytes())
    }

    #[test]
    fn only_the_patience_may_differ() {
        let first = hash_of("/v1/tenants", "{}");
        assert_eq!(first, hash_of("/v1/tenants?wait=30", "{}"));
        for (path, body) in [("/v1/tenants", "{ }"), ("/v1/tokens", "{}"), ("/v1/tenants?dry_run=true", "{}")] {
            assert_ne!(first, hash_of(path, body), "{path} {body}");
        }
        assert_ne!(hash_of("/v1/a?b", "c"), hash_of("/v1/a", "bc"));
    }

    #[test]
    fn a_key_is_short_and_visible() {
        let given = |values: &[&str]| {
            let value = |text: &&str| (IDEMPOTENCY_KEY, HeaderValue::from_str(text).expect("a header"));
            key(&values.iter().map(value).collect())
        };
        assert_eq!(given(&[]).expect("absent"), None);
        assert_eq!(given(&["a-1"]).expect("a key").as_deref(), Some("a-1"));
        for values in [&[""][..], &["a b"], &["a", "b"], &["x".repeat(256).as_str()]] {
            assert_eq!(given(values).expect_err("no key").status().as_u16(), 400, "{values:?}");
        }
    }

    #[tokio::test]
    async fn a_kept_answer_is_given_again_with_its_status_and_place() {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/v1/tenants/1"))]);
        let kept = Kept::answer(&headers, &Bytes::from_static(b"{\"id\":1}")).expect("text");
        let response = replay(202, &serde_json::to_vec(&kept).expect("JSON")).expect("an answer");
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers()[LOCATION], "/v1/tenants/1");
        assert_eq!(response.headers()[REPLAYED], "true");
        assert_eq!(to_bytes(response.into_body(), 100).await.expect("a body"), "{\"id\":1}");
    }

    #[test]
    fn a_secret_is_not_given_again() {
        let kept = Kept::ShownOnce { instead: "it was shown once".to_owned() };
        let refusal = replay(201, &serde_json::to_vec(&kept).expect("JSON")).expect_err("no secret");
        assert_eq!(refusal.status(), StatusCode::CONFLICT);
    }
}
