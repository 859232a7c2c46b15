//! Somebody who is told of events by a webhook, and does not always take them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tenantry_domain::Secret;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a receiver does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Takes it.
    Take,
    /// Answers with this status.
    Answer(u16),
    /// Sends it elsewhere: to `/elsewhere` of its own.
    Redirect,
    /// Never answers.
    Hang,
    /// Answers a body without an end.
    Pour,
}

/// One request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// At which path.
    pub path: &'static str,
    /// `Tenantry-Delivery`.
    pub delivery: String,
    /// `Tenantry-Signature`.
    pub signature: String,
    /// The bytes as they came.
    pub body: Vec<u8>,
    /// What was done with it.
    pub behaviour: Behaviour,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// What happened.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().expect("a type").to_owned()
    }

    /// Whether one of its signatures is by this secret, as a receiver would check it.
    pub fn is_signed_by(&self, secret: &Secret) -> bool {
        let parts: Vec<(&str, &str)> = self.signature.split(',').filter_map(|part| part.split_once('=')).collect();
        let time = parts.iter().find(|(name, _)| *name == "t").expect("a time").1;
        let mut signed = format!("{time}.").into_bytes();
        signed.extend_from_slice(&self.body);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.expose().as_bytes());
        let given = parts.iter().filter(|(name, _)| *name == "v1");
        given.filter_map(|(_, tag)| hex::decode(tag).ok()).any(|tag| ring::hmac::verify(&key, &signed, &tag).is_ok())
    }

    /// How many signatures it has.
    pub fn signatures(&self) -> usize {
        self.signature.matches("v1=").count()
    }
}

/// An HTTP server of the test's own. Ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    planned: Mutex<VecDeque<Behaviour>>,
    otherwise: Mutex<Option<Behaviour>>,
}

impl Receiver {
    /// Takes everything, until it is told otherwise.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let app = Router::new()
            .route("/hook", post(hook))
            .route("/elsewhere", post(elsewhere).get(elsewhere))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("a server that stays") });
        Self { address, shared, serving }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Does these with the next requests, one after the other, before it does as it otherwise would.
    pub fn plan(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.shared.planned).extend(behaviours);
    }

    /// Does this with every request from now on that nothing is planned for.
    pub fn otherwise(&self, behaviour: Behaviour) {
        *lock(&self.shared.otherwise) = Some(behaviour);
    }

    /// All that came, in the order in which it came.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// What it took, in the order in which it did.
    pub fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(|request| request.behaviour == Behaviour::Take).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn hook(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    receive(&shared, "/hook", &headers, &body).await
}

async fn elsewhere(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    receive(&shared, "/elsewhere", &headers, &body).await
}

async fn receive(shared: &Shared, path: &'static str, headers: &HeaderMap, body: &Bytes) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let planned = lock(&shared.planned).pop_front();
    let behaviour = planned.or(*lock(&shared.otherwise)).unwrap_or(Behaviour::Take);
    lock(&shared.received).push(Received {
        path,
        delivery: text("tenantry-delivery"),
        signature: text("tenantry-signature"),
        body: body.to_vec(),
        behaviour,
    });
    match behaviour {
        Behaviour::Take => StatusCode::NO_CONTENT.into_response(),
        Behaviour::Answer(status) => {
            (StatusCode::from_u16(status).expect("a status"), "not today\u{1b}[0m").into_response()
        }
        Behaviour::Redirect => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Pour => {
            let drops = futures::stream::repeat(Ok::<_, std::fmt::Error>(Bytes::from_static(&[b'x'; 4096])));
            axum::body::Body::from_stream(drops).into_response()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
