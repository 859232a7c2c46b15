//! A control plane with its door, on a server of its own that holds the catalog and the homes.

use std::sync::OnceLock;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tenantry_control::{Control, ControlConfig, tokens};
use tenantry_domain::{Scope, ScopeSet, Secret};
use tenantry_fleet::{Fleet, FleetConfig};
use tenantry_runtime::{Telemetry, TelemetryConfig, install_crypto};
use tenantry_server::{Server, ServerConfig, ServerError};
use tenantry_store::{Keyring, Store, StoreConfig};
use tenantry_testkit as testkit;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) struct House {
    pub(crate) postgres: testkit::Server,
    pub(crate) url: String,
    store: Store,
    token: String,
    http: reqwest::Client,
    /// Closes the door alone.
    pub(crate) close: CancellationToken,
    stop: CancellationToken,
    working: JoinHandle<()>,
    pub(crate) serving: JoinHandle<Result<(), ServerError>>,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::open_with(ServerConfig::default()).await
    }

    /// With other settings than the defaults; the port is the kernel's choice in any case.
    pub(crate) async fn open_with(config: ServerConfig) -> Self {
        install_crypto();
        let postgres = testkit::Server::own().await;
        postgres.connect("postgres").await.batch_execute("CREATE DATABASE catalog").await.unwrap();
        let keyring = Keyring::parse(&Keyring::generate().unwrap()).unwrap();
        let store = Store::connect(&StoreConfig::new(Secret::new(postgres.url("catalog"))), keyring).await.unwrap();
        store.migrate().await.unwrap();
        let mut plane = ControlConfig::new(Uuid::now_v7());
        plane.place_on_catalog_server = true;
        let control = Control::new(store.clone(), Fleet::new(FleetConfig::default()), plane, Vec::new()).await.unwrap();
        let config = ServerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..config };
        let door = Server::bind(config, control.clone(), telemetry()).unwrap();
        let url = door.url();
        let (close, stop) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(door.run(close.clone()));
        let working = tokio::spawn({
            let stop = stop.clone();
            async move { control.run(stop).await }
        });
        let token = first_token(&store, [Scope::Admin]).await;
        let http = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).build().unwrap();
        Self { postgres, url, store, token, http, close, stop, working, serving }
    }

    /// A token straight from the catalog.
    pub(crate) async fn token(&self, scopes: impl IntoIterator<Item = Scope>) -> String {
        first_token(&self.store, scopes).await
    }

    /// A request without a token.
    pub(crate) fn stranger(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A request with the admin's token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.stranger(method, path).bearer_auth(&self.token)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    /// Registers the server itself, so that tenants can live there.
    pub(crate) async fn register_cluster(&self) {
        let (cluster, port) = (self.postgres.cluster(), self.postgres.address().port());
        let body = json!({
            "name": "one", "region": "eu-1", "tenancy": "shared", "host": "127.0.0.1", "port": port,
            "user": cluster.user(), "password": cluster.password(),
        });
        let answer = Answer::of(self.post("/v1/clusters", &body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(!answer.body.to_string().contains(cluster.password()), "no answer shows the password");
    }

    /// Ends everything in good order.
    pub(crate) async fn end(self) {
        self.close.cancel();
        self.serving.await.unwrap().unwrap();
        self.stop.cancel();
        self.working.await.unwrap();
    }
}

async fn first_token(store: &Store, scopes: impl IntoIterator<Item = Scope>) -> String {
    let name = "test".parse().unwrap();
    let (_, secret) = tokens::create_first(store, name, ScopeSet::new(scopes), None).await.unwrap();
    secret.expose().to_owned()
}

/// Installed once, because tracing and metrics are process-wide.
fn telemetry() -> Telemetry {
    static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
    let install = || {
        let config = TelemetryConfig { log_filter: "off".to_owned(), ..TelemetryConfig::default() };
        Telemetry::install(&config).expect("the first telemetry of the process")
    };
    TELEMETRY.get_or_init(install).clone()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        Self::read(request.send().await.expect("an answer")).await
    }

    pub(crate) async fn read(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of a problem; checks that it is one.
    pub(crate) fn code(&self) -> &str {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        assert_eq!(self.body["request_id"], self.header("x-request-id"), "{self:?}");
        self.body["code"].as_str().unwrap()
    }
}
