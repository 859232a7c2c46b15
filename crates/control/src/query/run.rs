//! The asking itself: bounded over all and on each cluster, one task per tenant under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tenantry_domain::{ClusterId, Placement, Slug, Tenant, TenantState};
use tenantry_fleet::{ClusterTarget, FleetError, Reading, ReadingError, ReadingFailure};
use tenantry_store::{PAGE_MAX, PageRequest, StoreError};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::{FleetQuery, QueryItem, QuerySummary, Selection};
use crate::control::Control;
use crate::operations::cluster_target::target_of;

/// For connecting, beside the statement's own time; whoever takes the rows too slowly takes from this too.
const GRACE: Duration = Duration::from_secs(15);

/// Asks one tenant after the other as places become free, and tells the sum at the end.
pub(super) async fn run(
    control: Control,
    query: FleetQuery,
    named: Option<Vec<Tenant>>,
    items: mpsc::Sender<QueryItem>,
) {
    let mut asking = Asking {
        until: Instant::now() + query.time_limit,
        places: Arc::new(Semaphore::new(query.concurrency.max(1))),
        clusters: HashMap::new(),
        tasks: JoinSet::new(),
        summary: QuerySummary::default(),
        query: Arc::new(query),
        control,
        items,
    };
    let is_whole = match named {
        Some(tenants) => asking.all(tenants).await,
        None => asking.pages().await,
    };
    while let Some(ended) = asking.tasks.join_next().await {
        asking.count(ended.ok());
    }
    if is_whole {
        // Nobody is left to tell where this fails.
        let _ = asking.items.send(QueryItem::Summary(asking.summary)).await;
    }
}

struct Asking {
    control: Control,
    query: Arc<FleetQuery>,
    until: Instant,
    places: Arc<Semaphore>,
    clusters: HashMap<ClusterId, Arc<Cluster>>,
    tasks: JoinSet<Ended>,
    summary: QuerySummary,
    items: mpsc::Sender<QueryItem>,
}

/// What tenants of one cluster share.
struct Cluster {
    id: ClusterId,
    places: Arc<Semaphore>,
    target: OnceCell<ClusterTarget>,
    /// Why it was not reached: its other tenants are not tried either, each for as long as it takes to see that.
    unreachable: OnceCell<String>,
}

/// What came of a tenant.
enum Ended {
    Reached { rows: u64, truncated: bool },
    Failed { rows: u64 },
}

impl Asking {
    /// Whether all were begun; otherwise nobody reads the answer.
    async fn all(&mut self, tenants: Vec<Tenant>) -> bool {
        for tenant in tenants {
            if !self.begin(tenant).await {
                return false;
            }
        }
        true
    }

    /// Page by page, so that a fleet of any size takes the same room. Whether all were begun.
    async fn pages(&mut self) -> bool {
        let Selection::Filter(filter) = self.query.selection.clone() else { return true };
        let mut page = PageRequest { limit: PAGE_MAX, cursor: None };
        loop {
            let tenants = match self.control.store().tenants(&filter, &page).await {
                Ok(tenants) => tenants,
                Err(error) => {
                    warn!(%error, "a fleet query breaks off: the catalog does not tell its tenants");
                    return false;
                }
            };
            if !self.all(tenants.items).await {
                return false;
            }
            page.cursor = tenants.next;
            if page.cursor.is_none() {
                return true;
            }
        }
    }

    async fn begin(&mut self, tenant: Tenant) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            self.count(ended.ok());
        }
        let placement = match placement(&tenant) {
            Ok(placement) => placement,
            Err(reason) => return self.skip(tenant.slug, reason.to_owned()).await,
        };
        let place = tokio::time::timeout_at(self.until, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return self.skip(tenant.slug, "the time of the query was over before".to_owned()).await;
        };
        let per_cluster = self.query.per_cluster.max(1);
        let id = placement.home.cluster;
        let cluster = self.clusters.entry(id).or_insert_with(|| {
            let places = Arc::new(Semaphore::new(per_cluster));
            Arc::new(Cluster { id, places, target: OnceCell::new(), unreachable: OnceCell::new() })
        });
        let one = One {
            control: self.control.clone(),
            query: Arc::clone(&self.query),
            cluster: Arc::clone(cluster),
            slug: tenant.slug.clone(),
            placement: placement.clone(),
            items: self.items.clone(),
            _place: place,
        };
        self.tasks.spawn(one.ask());
        !self.items.is_closed()
    }

    async fn skip(&mut self, tenant: Slug, reason: String) -> bool {
        self.summary.skipped += 1;
        self.items.send(QueryItem::Skipped { tenant, reason }).await.is_ok()
    }

    /// A task that panicked has failed; the log has the details.
    fn count(&mut self, ended: Option<Ended>) {
        match ended.unwrap_or(Ended::Failed { rows: 0 }) {
            Ended::Reached { rows, truncated } => {
                self.summary.reached += 1;
                self.summary.rows += rows;
                self.summary.truncated += u64::from(truncated);
            }
            Ended::Failed { rows } => {
                self.summary.failed += 1;
                self.summary.rows += rows;
            }
        }
    }
}

/// Where the tenant is to be asked, or why it is not.
fn placement(tenant: &Tenant) -> Result<&Placement, &'static str> {
    match &tenant.state {
        TenantState::Active { home } => Ok(home),
        TenantState::Suspended { .. } => Err("the tenant is suspended, and so are its logins"),
        TenantState::Moving { .. } => Err("the tenant is moving"),
        TenantState::Provisioning { .. } => Err("the tenant is being provisioned"),
        TenantState::Deleting { .. } => Err("the tenant is being deleted"),
        TenantState::Deleted { .. } => Err("the tenant is deleted"),
        TenantState::Failed { .. } => Err("the tenant could not be provisioned"),
    }
}

/// One tenant that is asked.
struct One {
    control: Control,
    query: Arc<FleetQuery>,
    cluster: Arc<Cluster>,
    slug: Slug,
    placement: Placement,
    items: mpsc::Sender<QueryItem>,
    _place: OwnedSemaphorePermit,
}

impl One {
    async fn ask(self) -> Ended {
        let mut rows = 0;
        // Past the limit the session is dropped, which cancels the statement.
        let limit = self.query.statement_timeout + GRACE;
        let asked = match self.cluster.places.acquire().await {
            Ok(_turn) => tokio::time::timeout(limit, self.read(&mut rows)).await,
            Err(_) => return Ended::Failed { rows },
        };
        let failure = match asked {
            Ok(Ok(truncated)) => {
                let _ = self.items.send(QueryItem::Reached { tenant: self.slug, rows, truncated }).await;
                return Ended::Reached { rows, truncated };
            }
            Ok(Err(failure)) => failure,
            Err(_) => own(format!("no end within {} s: its server, or whoever reads, is too slow", limit.as_secs())),
        };
        let _ = self.items.send(QueryItem::Failed { tenant: self.slug, failure: Box::new(failure) }).await;
        Ended::Failed { rows }
    }

    /// Tells the rows; whether there were more than are told.
    async fn read(&self, told: &mut u64) -> Result<bool, ReadingFailure> {
        if let Some(reason) = self.cluster.unreachable.get() {
            return Err(own(reason.clone()));
        }
        let store = self.control.store();
        let target =
            self.cluster.target.get_or_try_init(async || store.cluster_access(self.cluster.id).await.map(target_of));
        let (home, target) =
            tokio::try_join!(store.home(self.placement.home.id), target).map_err(|error| match error {
                StoreError::NotFound { .. } => own("the tenant has moved, or is being deleted".to_owned()),
                other => own(other.to_string()),
            })?;
        let reading = Reading {
            tenant: self.placement.tenant,
            generation: self.placement.since,
            sql: &self.query.sql,
            statement_timeout: self.query.statement_timeout,
        };
        let reached = self.control.fleet().read(target, &home.home, &home.secrets.read_only, &reading).await;
        if let Err(ReadingError::Fleet(error @ FleetError::Unreachable { .. })) = &reached {
            // Whoever comes first says it.
            let _ = self.cluster.unreachable.set(error.to_string());
        }
        let mut rows = reached.map_err(failure)?;
        let columns: Arc<[String]> = rows.columns().map(str::to_owned).collect();
        while let Some(values) = rows.next().await.map_err(failure)? {
            if *told == self.query.rows_max {
                return Ok(true);
            }
            let row = QueryItem::Row { tenant: self.slug.clone(), columns: Arc::clone(&columns), values };
            if self.items.send(row).await.is_err() {
                break;
            }
            *told += 1;
        }
        Ok(false)
    }
}

fn failure(error: ReadingError) -> ReadingFailure {
    match error {
        ReadingError::Refused(failure) => *failure,
        ReadingError::Fleet(error) => own(error.to_string()),
    }
}

fn own(message: String) -> ReadingFailure {
    ReadingFailure { sqlstate: None, message, detail: None, hint: None, position: None }
}
