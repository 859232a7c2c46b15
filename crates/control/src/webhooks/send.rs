//! One attempt at one delivery.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tenantry_store::ClaimedDelivery;

use super::address::{self, Policy};
use super::{WebhookConfig, body, signature};
use crate::error::ControlError;

/// For making the connection, within the time of the whole attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next event.
const IDLE: Duration = Duration::from_secs(15);
/// What is read of an answer at most; the rest is not waited for.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// What is kept of it.
const ANSWER_KEPT: usize = 500;
/// The longest that a receiver may ask us to stay away.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// What a receiver said, or why it said nothing.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
    pub(super) response: Option<String>,
    pub(super) duration: Duration,
    /// When the receiver wants to be asked again, if it said so.
    pub(super) retry_after: Option<Duration>,
    /// Whether the receiver wants to hear nothing ever again.
    pub(super) is_gone: bool,
}

impl Outcome {
    pub(super) fn is_taken(&self) -> bool {
        self.error.is_none()
    }
}

/// Sends events to where the settings allow.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    https: Client,
    /// To this machine only, whatever a name resolves to.
    http: Client,
    policy: Policy,
    timeout: Duration,
}

impl Sender {
    pub(super) fn new(config: &WebhookConfig) -> Result<Self, ControlError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Failing means that another thread was first, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let policy = Policy::of(config);
        let client = |resolver: CheckedResolver| {
            Client::builder()
                .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(config.timeout)
                // A redirect, or a proxy from the environment, would lead to an address that nobody checked.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .dns_resolver(resolver)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(1)
                .build()
                .map_err(ControlError::internal)
        };
        Ok(Self {
            https: client(CheckedResolver { policy, is_loopback_only: false })?,
            http: client(CheckedResolver { policy, is_loopback_only: true })?,
            policy,
            timeout: config.timeout,
        })
    }

    /// Makes one attempt. Returns within the attempt's time, whatever the receiver does.
    pub(super) async fn send(&self, delivery: &ClaimedDelivery) -> Outcome {
        let began = Instant::now();
        let outcome = match tokio::time::timeout(self.timeout, self.exchange(delivery)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", self.timeout.as_secs_f64())),
        };
        let failed = |error| Outcome {
            status: None,
            error: Some(error),
            response: None,
            duration: Duration::ZERO,
            retry_after: None,
            is_gone: false,
        };
        Outcome { duration: began.elapsed(), ..outcome.unwrap_or_else(failed) }
    }

    async fn exchange(&self, delivery: &ClaimedDelivery) -> Result<Outcome, String> {
        // Checked again at each attempt: the settings may have changed, and an address in the URL asks no resolver.
        let url = address::check(&delivery.url, self.policy).map_err(|refusal| refusal.to_string())?;
        let body = body::of(delivery).map_err(|error| error.to_string())?;
        let client = if url.scheme() == "http" { &self.http } else { &self.https };
        let signed = signature::sign(&delivery.secrets, Timestamp::now().as_second(), &body);
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("tenantry-delivery", delivery.id.to_string())
            .header("tenantry-event", delivery.kind.as_str())
            .header("tenantry-attempt", delivery.attempt.to_string())
            .header("tenantry-signature", signed)
            .body(body);
        // The URL may hold a secret of the receiver's: it is not part of what is kept.
        let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
        Ok(read(response).await)
    }
}

async fn read(mut response: Response) -> Outcome {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX {
        // The status has said what matters; an answer that breaks off is kept as far as it came.
        let Ok(Some(chunk)) = response.chunk().await else { break };
        answer.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - answer.len())]);
    }
    Outcome {
        status: Some(status.as_u16()),
        error: refusal(status),
        response: excerpt(&answer),
        duration: Duration::ZERO,
        retry_after: retry_after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
        is_gone: status == StatusCode::GONE,
    }
}

fn refusal(status: StatusCode) -> Option<String> {
    if status.is_success() {
        return None;
    }
    let hint = if status.is_redirection() { "; redirects are not followed, so name the final URL" } else { "" };
    Some(format!("it answered {}{hint}", status.as_u16()))
}

fn excerpt(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let text: String = text.chars().filter(|character| !character.is_control()).take(ANSWER_KEPT).collect();
    (!text.is_empty()).then_some(text)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.chars().take(ANSWER_KEPT).collect()
}

/// Resolves a name and leaves out every address that is not allowed, at the moment of connecting: what the name meant
/// when the webhook was recorded says nothing about now.
#[derive(Debug, Clone, Copy)]
struct CheckedResolver {
    policy: Policy,
    is_loopback_only: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("`{name}` has no address that is allowed here: it resolves to this machine or to a private network")]
struct NoneAllowed {
    name: String,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { policy, is_loopback_only } = *self;
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| policy.allows(address.ip()) && (!is_loopback_only || address.ip().is_loopback()))
                .collect();
            if allowed.is_empty() {
                return Err(NoneAllowed { name }.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_inward_resolves_to_nothing() {
        let policy = Policy { allow_loopback: false, allow_private_networks: true };
        let strict = CheckedResolver { policy, is_loopback_only: false };
        let name = || Name::from_str("localhost").expect("a name");
        let Err(refused) = strict.resolve(name()).await else { panic!("it leads inward") };
        assert!(refused.to_string().contains("localhost"), "{refused}");
        let local = CheckedResolver { policy: Policy { allow_loopback: true, ..policy }, is_loopback_only: true };
        let mut found = local.resolve(name()).await.expect("allowed");
        assert!(found.all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn what_is_kept_of_an_answer_is_short_text() {
        assert_eq!(excerpt(b""), None);
        assert_eq!(excerpt(b"a\r\n\x1b[31mb\xff").as_deref(), Some("a[31mb\u{fffd}"));
        assert_eq!(excerpt(&[b'x'; 4_000]).map(|text| text.len()), Some(ANSWER_KEPT));
    }
}
