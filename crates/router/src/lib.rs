//! The router: finds a tenant's route in memory and hands out connections from a pool of the tenant's own.
//!
//! Here live the routing table, which follows the control plane's feed and goes on serving when the control plane is
//! away; the pools, made on first use and gone when idle; and the cleaning of connections, so that nothing of one
//! borrower reaches the next. Never here: the catalog, or SQL beyond the checkout and reset of connections.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tenantry_router::{Router, Secret};
//!
//! let token = Secret::new(std::env::var("TENANTRY_TOKEN")?);
//! let router = Router::builder().control_plane("https://tenantry.example.com", token).build().await?;
//! let acme = router.tenant("acme").await?;
//! let transaction = acme.transaction().await?;
//! transaction.execute("update flights set status = 'landed' where id = $1", &[&7_i64]).await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Features: `axum` (the extractor of [`Tenant`] and the layer for its limits), `jwt` (the extractor reads verified tokens),
//! `testing` (routers for a service's own tests). The module `guide` leads from an empty folder to a running service in ten
//! minutes.
//!
#![doc = include_str!("../docs/metrics.md")]
//!
//! # Spans
//!
//! With the crate `tracing` a checkout that finds no connection ready is a span `tenantry.checkout` (fields `tenant_id`,
//! `generation`, `access`, `replica_id`, `outcome`), and opening a connection a span `tenantry.connect` within it (`server`,
//! `sqlstate`, `outcome`), both at level INFO; cleaning one that was given back is a span `tenantry.reset` (`tenant_id`,
//! `outcome`) at level DEBUG. Handing out a connection that is there is none.
//!
//! # Without the control plane
//!
//! Routes that are known go on serving however long the control plane is away; [`RouterConfig::staleness_max`] ends that
//! where old routes are worse than none. With [`RouterBuilder::snapshot_file`] a router that starts meanwhile serves, too.
//! [`Router::health`] says how old the routes are and where they came from.
//!
//! # Connections that tenants share
//!
//! Each tenant has connections of its own, logged in as the tenant, unless its route says that it shares those of its
//! database: then a connection becomes the tenant's role when it is borrowed and is reset when it comes back, and there are
//! at most [`RouterConfig::shared_pool_size`] for all of them. The module `guide` says what that is good for and what not;
//! above all it is no boundary against SQL that a tenant may write.
//!
//! # Inside
//!
//! Start reading at [`Router`], then [`Tenant`] and [`Connection`]; inside, `feed` (how routes come), `table` (how one is
//! found), `pool` (how its connections are kept, lent and taken back) and `connect` (how one is opened).

mod budget;
mod builder;
mod connect;
mod error;
mod evict;
#[cfg(feature = "axum")]
mod extract;
mod feed;
mod for_each;
mod freshness;
#[cfg(all(any(doc, doctest), feature = "axum"))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}
mod handle;
mod health;
mod inner;
mod limits;
mod name;
mod options;
mod pause;
mod pool;
mod quote;
mod reading;
mod replica;
mod report;
mod router;
mod session;
mod shared;
mod snapshot;
mod spans;
mod sync;
mod table;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod versions;

pub use builder::{RouterBuilder, RouterConfig};
pub use deadpool_postgres::{Transaction, TransactionBuilder};
pub use error::{Phase, RouterError};
#[cfg(feature = "axum")]
pub use extract::{Development, TenantRejection, TenantSourceConfig, TenantSources, TenantSourcesConfig};
#[cfg(feature = "jwt")]
pub use extract::{TokenAlgorithm, TokenConfig, TokenError, TokenKey, TokenKeyConfig, TokenVerifier};
pub use for_each::{ForEachProgress, ForEachReport, ForEachTenant, Labelled};
pub use health::{HealthState, RouterHealth};
pub use limits::{Permit, RequestLimit};
#[cfg(feature = "axum")]
pub use limits::{TenantLimit, TenantLimitLayer};
pub use name::TenantName;
pub use options::ConnectionOptions;
pub use pool::connection::Connection;
pub use replica::{ReadFrom, ReplicaFault};
pub use router::{RouteSource, Router, RouterStatus, TenantSummary};
pub use snapshot::{InvalidSnapshotKey, SnapshotKey};
pub use tenant::{Access, Tenant};
pub use tenantry_domain::{ClusterId, ClusterReplicaId, Generation, Limits, RouteState, Secret, TenantId, TlsMode};
pub use tokio_postgres;
pub use tokio_postgres::IsolationLevel;
pub use transaction::{TenantTransaction, TenantTransactionBuilder};
pub use versions::SchemaVersions;
