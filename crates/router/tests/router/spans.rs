//! What takes long can be seen in spans, and what does not costs none.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use tenantry_router::Tenant;
use tenantry_testkit::{Server, eventually};
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::home::{Home, impatient};

/// Where there is one subscriber only, tracing asks the thread that comes to a place first whether anybody looks at it, and
/// remembers the answer for all threads: there must be two.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Registry::default()));

/// One span of the router that has ended, or not yet.
#[derive(Debug, Clone)]
struct Seen {
    name: &'static str,
    level: Level,
    parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
    has_ended: bool,
}

/// Keeps the spans of this thread, which runs all that a test does.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(Id, Seen)>>>);

impl Spans {
    fn kept(&self) -> MutexGuard<'_, Vec<(Id, Seen)>> {
        self.0.lock().expect("no panic")
    }

    /// Begins to look, up to a level.
    fn watch(most: LevelFilter) -> (Self, DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let spans = Self::default();
        let guard = tracing::subscriber::set_default(Registry::default().with(spans.clone().with_filter(most)));
        (spans, guard)
    }

    /// All of one name that have ended.
    fn ended(&self, name: &str) -> Vec<Seen> {
        let kept = self.kept();
        kept.iter().map(|(_, seen)| seen).filter(|seen| seen.name == name && seen.has_ended).cloned().collect()
    }

    fn forget(&self) {
        self.kept().clear();
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        if !metadata.target().starts_with("tenantry_router") {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = context.span(id).and_then(|span| span.parent().map(|parent| parent.name()));
        let seen = Seen { name: metadata.name(), level: *metadata.level(), parent, fields: fields.0, has_ended: false };
        self.kept().push((id.clone(), seen));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        // Ids are used again; the last one is the one that is open.
        if let Some((_, seen)) = self.kept().iter_mut().rev().find(|(known, _)| known == id) {
            seen.fields.extend(fields.0);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        if let Some((_, seen)) = self.kept().iter_mut().rev().find(|(known, _)| *known == id) {
            seen.has_ended = true;
        }
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

async fn use_once(tenant: &Tenant) {
    let client = tenant.client().await.expect("a connection");
    client.query("SELECT * FROM flights", &[]).await.expect("an answer");
}

#[tokio::test]
async fn a_checkout_that_opens_or_waits_is_a_span_and_one_that_does_not_is_none() {
    let home = Home::on(Server::shared().await, "acme").await;
    home.make_plain().await;
    let (spans, _guard) = Spans::watch(LevelFilter::INFO);
    let router = home.router_with(home.route(), impatient()).await;
    let tenant = router.tenant("acme").await.expect("found");
    use_once(&tenant).await;
    let [checkout] = &spans.ended("tenantry.checkout")[..] else { panic!("one: {:?}", spans.kept()) };
    let field = |seen: &Seen, name: &str| seen.fields.get(name).cloned().unwrap_or_default();
    assert_eq!(checkout.level, Level::INFO);
    assert_eq!(field(checkout, "tenant_id"), home.tenant.to_string());
    assert_eq!((field(checkout, "generation"), field(checkout, "access")), ("1".to_owned(), "read_write".to_owned()));
    assert_eq!(field(checkout, "outcome"), "ok");
    let [connect] = &spans.ended("tenantry.connect")[..] else { panic!("one: {:?}", spans.kept()) };
    assert_eq!((connect.parent, field(connect, "outcome")), (Some("tenantry.checkout"), "ok".to_owned()));
    assert_eq!(field(connect, "server"), home.names.server().address().to_string());

    // The home is looked at after the first use; from then on the connection is there.
    use_once(&tenant).await;
    drop(tenant.client().await.expect("it is back"));
    spans.forget();
    for _ in 0..10 {
        drop(tenant.client().await.expect("it is there"));
    }
    assert!(spans.kept().is_empty(), "{:?}", spans.kept());

    let held = tenant.client().await.expect("the only one");
    let waiting = tenant.read_only();
    tenant.client().await.expect_err("in use");
    drop(held);
    let sql = format!("ALTER ROLE {} CONNECTION LIMIT 0", home.read_only.name);
    home.admin().await.batch_execute(&sql).await.expect("a limit");
    waiting.client().await.expect_err("no room");
    let outcomes: Vec<_> = spans.ended("tenantry.checkout").iter().map(|seen| field(seen, "outcome")).collect();
    assert_eq!(outcomes, ["timeout_wait", "unavailable"]);
    let refused = spans.ended("tenantry.connect");
    assert!(!refused.is_empty());
    for seen in &refused {
        assert_eq!((field(seen, "outcome"), field(seen, "sqlstate")), ("refused".to_owned(), "53300".to_owned()));
    }
    assert!(spans.ended("tenantry.reset").is_empty(), "those are for a closer look");
}

#[tokio::test]
async fn cleaning_is_a_span_of_its_own_and_no_span_bears_a_secret() {
    let home = Home::on(Server::shared().await, "acme").await;
    let (spans, _guard) = Spans::watch(LevelFilter::TRACE);
    let tenant = home.router_with(home.route(), impatient()).await.tenant("acme").await.expect("found");
    let client = tenant.client().await.expect("a connection");
    client.batch_execute("SET statement_timeout = '7s'").await.expect("something to clean");
    drop(client);
    let outcome_of = |number: usize| {
        let ended = spans.ended("tenantry.reset");
        ended.get(number).map(|seen| (seen.level, seen.parent, seen.fields["outcome"].clone()))
    };
    eventually("it is cleaned", async || outcome_of(0).is_some()).await;
    assert_eq!(outcome_of(0), Some((Level::DEBUG, None, "clean".to_owned())));
    let client = tenant.client().await.expect("a connection");
    let sleep = client.batch_execute("SELECT pg_sleep(3600)");
    assert!(timeout(Duration::from_millis(20), sleep).await.is_err());
    drop(client);
    eventually("it is given up", async || outcome_of(1).is_some()).await;
    assert_eq!(outcome_of(1), Some((Level::DEBUG, None, "abandoned_query".to_owned())));
    let text = format!("{:?}", spans.kept());
    for secret in [&home.login.password, &home.read_only.password, &home.database, "statement_timeout", "pg_sleep"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains(&home.tenant.to_string()));
}
