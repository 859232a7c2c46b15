//! What happens in the demo, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use tenantry_api::route::ResolveBy;
use tenantry_api::{
    Client, ClientConfig, CreateRollout, CreateToken, ListClusters, MigrationFile, MigrationSet, PushMigrationSet,
    Rollout, TenantRef, WaitSeconds,
};
use tenantry_domain::{ClusterId, DisplayName, OperationState, RolloutState, SchemaVersion, Scope, ScopeSet};
use tenantry_router::Router;
use tenantry_sample::{Dataset, NEXT_MIGRATION, load, migrations};
use tokio_util::sync::CancellationToken;

use super::airline::{Airline, cast};
use super::error::DemoError;
use super::report::{Found, Line, Placement, Report};
use super::requests::Visitor;
use super::service::{BASE_DOMAIN, Service};
use crate::cli::error::CliError;
use crate::world::{Narration, SAMPLE_SET, World};

/// How long one tenant may take; all are made at the same time.
const PROVISION_PATIENCE: Duration = Duration::from_mins(2);
/// How long a route may take from the control plane to the router's table.
const ROUTE_PATIENCE: Duration = Duration::from_secs(10);
/// Airlines that are loaded at the same time.
const LOADED_AT_ONCE: usize = 4;
/// How often a rollout is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What goes on running until the demo is over.
pub(super) struct Stage {
    pub(super) service: Service,
    router: Router,
}

impl Stage {
    /// Ends the service, then the router below it.
    pub(super) async fn close(self) -> Result<(), DemoError> {
        let stopped = self.service.stop().await;
        self.router.close();
        stopped
    }
}

/// Provisions, loads, serves, migrates and counts. The report is not judged here.
pub(super) async fn run(world: &World, narration: &Narration) -> Result<(Stage, Report), CliError> {
    let client = Client::new(ClientConfig::new(&world.api_url, Some(world.token.clone()))?)?;
    let data = Arc::new(read().await?);
    let airlines = cast(&data).map_err(DemoError::from)?;
    let many = airlines.len();

    let provisioned = narration
        .count("provision a tenant for each airline", many, async |bar| provision(&client, &airlines, bar).await);
    provisioned.await?;

    let router = route(&client, world).await?;
    narration
        .count("load January through the router", many, async |bar| fill(&router, &data, &airlines, bar).await)
        .await?;

    let service = Service::start(router.clone()).await?;
    let visitor = Visitor::new(&service)?;
    let measured = narration.count("request each airline's departures by sub-domain", many, async |bar| {
        measure(&visitor, &airlines, bar).await
    });
    let p50 = measured.await?;

    let next = push_next(&client).await?;
    // The product is asked all the while: a migration that its users notice would end the demo.
    let rolled_out = CancellationToken::new();
    let rollout = async {
        let _ends_the_asking = rolled_out.clone().drop_guard();
        narration
            .count("roll one more migration out, with requests", many, async |bar| roll_out(&client, &next, bar).await)
            .await
    };
    let (ended, answers) = tokio::join!(rollout, visitor.keep_asking(&airlines, &rolled_out));
    ended?;
    let answers = answers?;

    let counted = narration.count("count again and compare", many, async |bar| {
        compare(&client, &visitor, &airlines, &p50, next.latest_version, bar).await
    });
    let lines = counted.await?;
    Ok((Stage { service, router }, Report::new(lines, answers)))
}

async fn read() -> Result<Dataset, DemoError> {
    let read = tokio::task::spawn_blocking(Dataset::read).await.map_err(|_| DemoError::Ended)?;
    Ok(read?)
}

/// All airlines at once; how many the control plane works on at the same time is its own affair.
async fn provision(client: &Client, airlines: &[Airline], bar: &ProgressBar) -> Result<(), CliError> {
    let provisioned = airlines.iter().map(|airline| async move {
        let wait = WaitSeconds::new(30).ok();
        let begun = client.create_tenant(&airline.wish(), wait).await?;
        let operation = client.wait_for_operation(begun.operation.id, PROVISION_PATIENCE).await?;
        if operation.state != OperationState::Succeeded {
            return Err(CliError::Operation(Box::new(operation)));
        }
        bar.inc(1);
        Ok(())
    });
    stream::iter(provisioned).buffer_unordered(airlines.len().max(1)).try_collect().await
}

/// A router as a service of a customer has one: its token can read routes and nothing else.
async fn route(client: &Client, world: &World) -> Result<Router, CliError> {
    let wish = CreateToken {
        name: DisplayName::parse("flight operations").map_err(DemoError::from)?,
        scopes: ScopeSet::new([Scope::RoutesSecrets]),
        tenant: None,
        expires_at: None,
    };
    let token = client.create_token(&wish).await?.secret.into_secret();
    let router = Router::builder().control_plane(&world.api_url, token).name("demo").base_domain(BASE_DOMAIN);
    Ok(router.build().await.map_err(DemoError::from)?)
}

async fn fill(router: &Router, data: &Dataset, airlines: &[Airline], bar: &ProgressBar) -> Result<(), DemoError> {
    let filled = airlines.iter().map(|airline| async move {
        let tenant = router.await_tenant(airline.slug.as_str(), ROUTE_PATIENCE).await?;
        let failed = |activity| move |source| DemoError::Home { tenant: airline.code.clone(), activity, source };
        let mut connection = tenant.client().await?;
        let transaction = connection.transaction().await.map_err(failed("beginning to load"))?;
        // Its own count is of no interest: the product is asked later, as its users would.
        let _ = load(&transaction, data, &airline.code).await?;
        transaction.commit().await.map_err(failed("committing what was loaded"))?;
        bar.inc(1);
        Ok(())
    });
    stream::iter(filled).buffer_unordered(LOADED_AT_ONCE).try_collect().await
}

/// One airline after the other: what is measured is a request, not the competition for two cores.
async fn measure(visitor: &Visitor, airlines: &[Airline], bar: &ProgressBar) -> Result<Vec<Duration>, DemoError> {
    let mut measured = Vec::with_capacity(airlines.len());
    for airline in airlines {
        measured.push(visitor.measure(airline).await?);
        bar.inc(1);
    }
    Ok(measured)
}

/// The set that the tenants have, with one migration more.
async fn push_next(client: &Client) -> Result<MigrationSet, CliError> {
    let files = migrations().iter().chain([&NEXT_MIGRATION]);
    let files = files.map(|(name, content)| MigrationFile { name: (*name).to_owned(), content: (*content).to_owned() });
    let name = DisplayName::parse(SAMPLE_SET).map_err(DemoError::from)?;
    Ok(client.push_migration_set(&PushMigrationSet { name, files: files.collect() }).await?)
}

async fn roll_out(client: &Client, set: &MigrationSet, bar: &ProgressBar) -> Result<(), CliError> {
    let wish = CreateRollout::new(set.id.clone());
    let mut rollout: Rollout = client.create_rollout(&wish).await?;
    while !rollout.state.is_finished() && rollout.state != RolloutState::Paused {
        tokio::time::sleep(LOOK).await;
        rollout = client.show_rollout(rollout.id).await?;
        bar.set_position(rollout.counts.finished());
    }
    match rollout.state {
        RolloutState::Succeeded => Ok(()),
        _ => Err(CliError::Rollout { rollout: Box::new(rollout), diverged: false }),
    }
}

async fn compare(
    client: &Client,
    visitor: &Visitor,
    airlines: &[Airline],
    p50: &[Duration],
    version: SchemaVersion,
    bar: &ProgressBar,
) -> Result<Vec<Line>, CliError> {
    let clusters = client.list_clusters(&ListClusters::default()).await?;
    let names: BTreeMap<ClusterId, String> =
        clusters.items.into_iter().map(|cluster| (cluster.id, cluster.name.to_string())).collect();
    let mut lines = Vec::with_capacity(airlines.len());
    for (airline, p50) in airlines.iter().zip(p50) {
        let tenant = client.show_tenant(&TenantRef::Slug(airline.slug.clone())).await?.value;
        let route = client.resolve_route(ResolveBy::Id(tenant.id)).await?;
        let name_of = |cluster| names.get(&cluster).cloned().unwrap_or_else(|| cluster.to_string());
        let placement = Placement {
            isolation: tenant.isolation,
            cluster: route.cluster.map(name_of).unwrap_or_default(),
            database: route.database.map(|name| name.to_string()).unwrap_or_default(),
            schema: route.schema.map(|name| name.to_string()).unwrap_or_default(),
        };
        let flights = visitor.count_flights(airline).await?;
        let found = Found { placement, schema_version: tenant.schema_version, flights, request_p50: *p50 };
        lines.push(Line::new(airline, found, version));
        bar.inc(1);
    }
    Ok(lines)
}
