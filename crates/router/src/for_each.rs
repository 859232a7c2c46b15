//! The same work for many tenants.

use std::fmt;
use std::future::ready;
use std::ops::RangeBounds;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream;
use tenantry_domain::{ClusterId, RouteState, TenantId};
use tracing::Instrument;

use crate::error::RouterError;
use crate::router::Router;
use crate::tenant::Tenant;
use crate::versions::SchemaVersions;

/// How many tenants are worked on at the same time unless set.
const CONCURRENCY: usize = 8;

/// Something about one tenant. Displays as `slug (id): value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled<T> {
    /// Which tenant.
    pub tenant: TenantId,
    /// Its slug when the work began.
    pub slug: String,
    /// What.
    pub value: T,
}

impl<T: fmt::Display> fmt::Display for Labelled<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}): {}", self.slug, self.tenant, self.value)
    }
}

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForEachProgress {
    /// Tenants that were selected.
    pub selected: usize,
    /// Done.
    pub done: usize,
    /// Failed.
    pub failed: usize,
    /// Not reached.
    pub skipped: usize,
}

/// What became of the work. Every selected tenant stands in one of the lists, or was not begun.
#[derive(Debug)]
pub struct ForEachReport<T, E> {
    /// What the work returned, in the order in which it ended.
    pub done: Vec<Labelled<T>>,
    /// Its errors.
    pub failed: Vec<Labelled<E>>,
    /// Tenants that could not be served when their turn came, with the reason: suspended, moving for too long, gone.
    pub skipped: Vec<Labelled<RouterError>>,
    /// How many were not begun because too many had failed.
    pub not_begun: usize,
}

impl<T, E> ForEachReport<T, E> {
    /// Whether the work was done for every selected tenant.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.skipped.is_empty() && self.not_begun == 0
    }
}

type Chosen<'c> = Box<dyn Fn(TenantId, &str) -> bool + Send + 'c>;
type Told<'c> = Box<dyn FnMut(ForEachProgress) + Send + 'c>;

/// Work for many tenants that is about to be described: see [`Router::for_each_tenant`].
#[must_use = "nothing happens before `run`"]
pub struct ForEachTenant<'c> {
    router: Router,
    concurrency: usize,
    failures_max: usize,
    states: Vec<RouteState>,
    cluster: Option<ClusterId>,
    versions: SchemaVersions,
    chosen: Chosen<'c>,
    progress: Told<'c>,
}

impl Router {
    /// Does the same work for many tenants: all that the router knows, unless filtered, oldest first. Tenants that come
    /// later are not visited.
    ///
    /// ```
    /// # use tenantry_router::{Router, RouterError, tokio_postgres};
    /// # async fn example(router: Router) {
    /// let report = router
    ///     .for_each_tenant()
    ///     .concurrency(16)
    ///     .within(12..)
    ///     .progress(|progress| println!("{} of {}", progress.done, progress.selected))
    ///     .run(async |tenant| {
    ///         let client = tenant.client().await?;
    ///         Ok::<_, Box<dyn std::error::Error>>(client.execute("DELETE FROM drafts WHERE stale", &[]).await?)
    ///     })
    ///     .await;
    /// for failure in &report.failed {
    ///     eprintln!("{failure}");
    /// }
    /// # }
    /// ```
    pub fn for_each_tenant<'c>(&self) -> ForEachTenant<'c> {
        ForEachTenant {
            router: self.clone(),
            concurrency: CONCURRENCY,
            failures_max: usize::MAX,
            states: Vec::new(),
            cluster: None,
            versions: SchemaVersions::ANY,
            chosen: Box::new(|_, _| true),
            progress: Box::new(|_| {}),
        }
    }
}

impl<'c> ForEachTenant<'c> {
    /// How many tenants are worked on at the same time; 8 unless set, 1 at least. Each takes a connection of its cluster.
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), ..self }
    }

    /// Begins no further tenants once so many have failed (1 at least); those that have begun end as they would.
    pub fn stop_after(self, failures: usize) -> Self {
        Self { failures_max: failures.max(1), ..self }
    }

    /// Only tenants in this state; called again, in that one too. Without it those that cannot be served are listed as
    /// skipped.
    pub fn state(mut self, state: RouteState) -> Self {
        self.states.push(state);
        self
    }

    /// Only tenants on this cluster.
    pub fn cluster(self, cluster: ClusterId) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// Only tenants with these versions of the schema; the work's connections are of such tenants only, as those of
    /// [`Tenant::within`].
    pub fn within(self, versions: impl RangeBounds<i64>) -> Self {
        Self { versions: SchemaVersions::of(versions), ..self }
    }

    /// Only tenants of whose id and slug this says so.
    pub fn only(self, chosen: impl Fn(TenantId, &str) -> bool + Send + 'c) -> Self {
        Self { chosen: Box::new(chosen), ..self }
    }

    /// Is told of every tenant that is through.
    pub fn progress(self, progress: impl FnMut(ForEachProgress) + Send + 'c) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    /// Does the work. A tenant's failure ends nothing but its own work; a panic ends everything. All runs in the task that
    /// waits, so what computes for long is better spawned. Where the future is dropped, so is the work that has begun, and
    /// its connections are cleaned as always.
    pub async fn run<T, E, W>(mut self, work: impl Fn(Tenant) -> W) -> ForEachReport<T, E>
    where
        W: Future<Output = Result<T, E>>,
    {
        let selected = self.selected();
        let mut progress = ForEachProgress { selected: selected.len(), done: 0, failed: 0, skipped: 0 };
        let mut report =
            ForEachReport { done: Vec::new(), failed: Vec::new(), skipped: Vec::new(), not_begun: selected.len() };
        let is_over = AtomicBool::new(false);
        {
            let (router, versions, work, is_over) = (&self.router, self.versions, &work, &is_over);
            let turns = stream::iter(selected).take_while(|_| ready(!is_over.load(Ordering::Relaxed))).map(
                |Labelled { tenant, slug, .. }| {
                    let span = tracing::info_span!("for_each_tenant", tenant_id = %tenant);
                    let turn = async move {
                        let outcome = match reach(router, tenant, versions).await {
                            Ok(tenant) => Ok(work(tenant).await),
                            Err(error) => Err(error),
                        };
                        (tenant, slug, outcome)
                    };
                    turn.instrument(span)
                },
            );
            let mut turns = std::pin::pin!(turns.buffer_unordered(self.concurrency));
            while let Some((tenant, slug, outcome)) = turns.next().await {
                report.not_begun -= 1;
                let word = match outcome {
                    Ok(Ok(value)) => {
                        report.done.push(Labelled { tenant, slug, value });
                        "done"
                    }
                    Ok(Err(value)) => {
                        report.failed.push(Labelled { tenant, slug, value });
                        "failed"
                    }
                    Err(value) => {
                        report.skipped.push(Labelled { tenant, slug, value });
                        "skipped"
                    }
                };
                metrics::counter!("tenantry_router_for_each_total", "outcome" => word).increment(1);
                (progress.done, progress.failed, progress.skipped) =
                    (report.done.len(), report.failed.len(), report.skipped.len());
                is_over.fetch_or(report.failed.len() >= self.failures_max, Ordering::Relaxed);
                (self.progress)(progress);
            }
        }
        report
    }

    /// The tenants that the filters leave, as they are now. Ids rise with time.
    fn selected(&self) -> Vec<Labelled<()>> {
        let table = &self.router.inner().table;
        let mut all = table.all();
        all.sort_unstable_by_key(|found| found.tenant);
        all.into_iter()
            .filter(|found| self.states.is_empty() || self.states.contains(&found.state))
            .filter(|found| self.versions.contains(found.schema_version))
            .filter(|found| self.cluster.is_none_or(|cluster| table.cluster_of(found) == Some(cluster)))
            .map(|found| Labelled { tenant: found.tenant, slug: table.texts(&found).slug().to_owned(), value: () })
            .filter(|labelled| (self.chosen)(labelled.tenant, &labelled.slug))
            .collect()
    }
}

impl fmt::Debug for ForEachTenant<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ForEachTenant").field("concurrency", &self.concurrency).finish_non_exhaustive()
    }
}

async fn reach(router: &Router, tenant: TenantId, versions: SchemaVersions) -> Result<Tenant, RouterError> {
    let tenant = router.tenant(tenant).await?;
    tenant.within_versions(versions).await
}
