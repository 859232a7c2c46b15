//! The same work for many tenants: each is reported, none stops another.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use tenantry_domain::{Route, SchemaVersion};
use tenantry_router::{
    ClusterId, ForEachProgress, ForEachTenant, RouteState, Router, RouterConfig, RouterError, Tenant, TenantId,
};
use tenantry_testkit::{Server, eventually};
use uuid::Uuid;

use crate::home::{Home, impatient, patient};

/// Tenants `t0`, `t1`, … that all lead to one home, for work that does not speak to it.
async fn many(home: &Home<'_>, number: u128, change: impl Fn(u128, &mut Route)) -> Router {
    let routes = (0..number).map(|number| {
        let mut route = home.route();
        route.tenant = TenantId::new(Uuid::from_u128(number + 1));
        route.slug = format!("t{number}").parse().expect("a slug");
        change(number, &mut route);
        route
    });
    let builder = Router::builder().fixed(routes.collect(), vec![home.feed_cluster()]).config(impatient());
    builder.build().await.expect("a router")
}

#[tokio::test]
async fn every_tenant_is_done_failed_or_skipped_and_says_which_it_was() {
    let server = Server::shared().await;
    let (acme, broken) = (Home::on(server, "acme").await, Home::on(server, "broken").await);
    broken.admin().await.batch_execute("DROP TABLE flights").await.expect("dropped");
    let state = |number, slug: &str, state| Route {
        tenant: TenantId::new(Uuid::from_u128(number)),
        slug: slug.parse().expect("a slug"),
        state,
        ..acme.route()
    };
    let known = vec![
        acme.route(),
        broken.route(),
        state(1, "asleep", RouteState::Suspended),
        state(2, "nomad", RouteState::Moving),
    ];
    let clusters = vec![acme.feed_cluster(), broken.feed_cluster()];
    let config = RouterConfig { pause_budget: impatient().pause_budget, ..patient() };
    let router = Router::builder().fixed(known, clusters).config(config).build().await.expect("a router");
    let seen = Mutex::new(Vec::new());
    let report = router
        .for_each_tenant()
        .progress(|progress| seen.lock().expect("no panic").push(progress))
        .run(async |tenant| {
            let client = tenant.client().await.map_err(|error| error.to_string())?;
            let row = client.query_one("SELECT count(*) FROM flights", &[]).await;
            Ok::<i64, String>(row.map_err(|error| format!("{:?}", error.code()))?.get(0))
        })
        .await;
    assert_eq!(report.done.len(), 1);
    assert_eq!((report.done[0].tenant, report.done[0].value), (acme.tenant, 0));
    assert_eq!(report.failed.len(), 1);
    let said = report.failed[0].to_string();
    assert!(said.starts_with("broken (") && said.contains(&broken.tenant.to_string()), "{said}");
    let mut skipped: Vec<_> = report.skipped.iter().map(|skipped| (skipped.slug.as_str(), &skipped.value)).collect();
    skipped.sort_by_key(|(slug, _)| *slug);
    assert!(matches!(skipped[..], [("asleep", RouterError::Suspended { .. }), ("nomad", RouterError::Moving { .. })]));
    assert!(report.not_begun == 0 && !report.is_complete());
    let last = *seen.lock().expect("no panic").last().expect("told");
    assert_eq!(last, ForEachProgress { selected: 4, done: 1, failed: 1, skipped: 2 });
}

#[tokio::test]
async fn filters_choose_by_cluster_state_version_and_name() {
    let home = Home::on(Server::shared().await, "acme").await;
    let elsewhere = ClusterId::new(Uuid::from_u128(77));
    let router = many(&home, 8, |number, route| {
        route.schema_version = SchemaVersion(i64::try_from(number).expect("small"));
        if number == 3 {
            route.state = RouteState::Suspended;
        }
        if number == 4 {
            route.target.as_mut().expect("a target").cluster = elsewhere;
        }
    })
    .await;
    let slugs = async |selection: ForEachTenant<'_>| {
        let report = selection.concurrency(1).run(async |tenant| Ok::<_, RouterError>(tenant.slug().to_string())).await;
        report.done.into_iter().map(|done| done.value).collect::<Vec<_>>()
    };
    let all = || router.for_each_tenant();
    assert_eq!(slugs(all()).await, ["t0", "t1", "t2", "t4", "t5", "t6", "t7"], "oldest first");
    assert_eq!(slugs(all().within(5..)).await, ["t5", "t6", "t7"]);
    assert_eq!(slugs(all().cluster(elsewhere)).await, ["t4"]);
    assert_eq!(slugs(all().only(|_, slug| slug == "t2" || slug == "t3")).await, ["t2"]);
    let active = all().state(RouteState::Active).run(async |_| Ok::<_, RouterError>(())).await;
    assert!(active.is_complete() && active.done.len() == 7);
    let asleep = all().state(RouteState::Suspended).run(async |_| Ok::<_, RouterError>(())).await;
    assert_eq!((asleep.done.len(), asleep.skipped.len()), (0, 1));
}

#[tokio::test]
async fn no_more_are_worked_on_at_once_than_may() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = many(&home, 40, |_, _| {}).await;
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let report = router
        .for_each_tenant()
        .concurrency(3)
        .run(async |_| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, RouterError>(())
        })
        .await;
    assert_eq!((report.done.len(), most.into_inner()), (40, 3));
}

/// Work may be spawned.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test]
async fn enough_failures_begin_no_more() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = many(&home, 40, |_, _| {}).await;
    let work = router.for_each_tenant().concurrency(1).stop_after(2);
    let broken = async |tenant: Tenant| {
        if tenant.id() == TenantId::new(Uuid::from_u128(1)) { Ok(()) } else { Err("it is broken") }
    };
    let report = sendable(work.run(broken)).await;
    assert_eq!((report.done.len(), report.failed.len()), (1, 2));
    assert_eq!(report.not_begun, 37);
}

#[tokio::test]
async fn dropped_work_ends_and_leaves_its_connections_clean() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router_with(home.route(), patient()).await;
    let mut work = Box::pin(router.for_each_tenant().run(async |tenant| {
        let mut client = tenant.client().await?;
        let transaction = client.transaction().await.expect("begun");
        transaction.execute("INSERT INTO flights VALUES (1, 'x')", &[]).await.expect("written");
        std::future::pending::<Result<(), RouterError>>().await
    }));
    let admin = home.admin().await;
    eventually("it has written and not committed", async || {
        assert!((&mut work).now_or_never().is_none());
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND backend_xid IS NOT NULL";
        admin.query_one(open, &[&home.login.name]).await.expect("asked").get::<_, i64>(0) == 1
    })
    .await;
    drop(work);
    let client = router.tenant("acme").await.expect("found").client().await.expect("the only connection");
    let row = client.query_one("SELECT count(*) FROM flights", &[]).await.expect("asked");
    assert_eq!(row.get::<_, i64>(0), 0);
}
