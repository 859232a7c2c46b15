//! The route feed: newline-delimited JSON, one event a line.
//!
//! A snapshot is `snapshot_begin`, the clusters, the routes, `snapshot_end`; both ends bear the version that the
//! snapshot is of. It may be some time old: the first `heartbeat` says that everything has been told. Changes follow in
//! commit order. A route never comes before the cluster that it names.
//!
//! Packed with gzip, whole lines can be read as they come.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tenantry_domain::{
    ClusterId, ClusterReplicaId, DisplayName, Endpoint, FeedVersion, InvalidName, LagMax, LeaseSerial, TenantId,
    TlsMode,
};
use utoipa::{IntoParams, ToSchema};

use crate::route::Route;
use crate::route_line::Text;
use crate::schema;

/// The media type of the feed.
pub const FEED_MEDIA_TYPE: &str = "application/x-ndjson";

/// Where a reader resumes, and who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct FeedQuery {
    /// The last version that was applied; a snapshot comes first when it is absent or too old.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub after: Option<FeedVersion>,
    /// The router's name, 1 to 200 characters, under which it also reports: `GET /v1/routers` shows it as connected then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, min_length = 1, max_length = 200)]
    pub router: Option<DisplayName>,
}

/// One line of the feed, with its route in a form of the reader's choice. Its first field is `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FeedEvent<R = Route> {
    /// A whole picture follows; what it does not name is gone.
    SnapshotBegin {
        /// The version of the picture.
        #[schema(value_type = i64)]
        version: FeedVersion,
        /// How many routes follow, but for those that come and go meanwhile; absent where the server does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        routes: Option<u64>,
    },
    /// Where a cluster is.
    Cluster(FeedCluster),
    /// What a tenant's route is now.
    Route(Box<R>),
    /// A tenant has no route any more.
    Removed {
        /// Whose.
        #[schema(value_type = Uuid)]
        tenant: TenantId,
        /// The change.
        #[schema(value_type = i64)]
        version: FeedVersion,
    },
    /// The picture is complete.
    SnapshotEnd {
        /// The version of the picture.
        #[schema(value_type = i64)]
        version: FeedVersion,
    },
    /// The router's share of a cluster's connections.
    Lease(ConnectionLease),
    /// The feed is alive; everything up to this version has been sent.
    Heartbeat {
        /// The latest version.
        #[schema(value_type = i64)]
        version: FeedVersion,
    },
}

impl FeedEvent {
    /// The version that a reader has reached once it applied the event. Inside a snapshot only the end counts.
    pub const fn version(&self) -> Option<FeedVersion> {
        match self {
            Self::Removed { version, .. } | Self::SnapshotEnd { version } | Self::Heartbeat { version } => {
                Some(*version)
            }
            Self::Route(route) => Some(route.version),
            Self::Cluster(cluster) => Some(cluster.version),
            Self::SnapshotBegin { .. } | Self::Lease(_) => None,
        }
    }
}

impl<R> FeedEvent<R> {
    /// The same event with its route, if it has one, in another form.
    pub fn map_route<S>(self, map: impl FnOnce(R) -> S) -> FeedEvent<S> {
        match self {
            Self::SnapshotBegin { version, routes } => FeedEvent::SnapshotBegin { version, routes },
            Self::Cluster(cluster) => FeedEvent::Cluster(cluster),
            Self::Route(route) => FeedEvent::Route(Box::new(map(*route))),
            Self::Removed { tenant, version } => FeedEvent::Removed { tenant, version },
            Self::SnapshotEnd { version } => FeedEvent::SnapshotEnd { version },
            Self::Lease(lease) => FeedEvent::Lease(lease),
            Self::Heartbeat { version } => FeedEvent::Heartbeat { version },
        }
    }
}

/// What `type` may be, in the order of the variants.
pub(crate) const KINDS: &[&str] =
    &["snapshot_begin", "cluster", "route", "removed", "snapshot_end", "lease", "heartbeat"];

/// By hand, because it knows that `type` comes first: what follows is read straight into its place. A snapshot has a
/// million of these.
impl<'de, R: Deserialize<'de>> Deserialize<'de> for FeedEvent<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor(PhantomData))
    }
}

struct EventVisitor<R>(PhantomData<R>);

impl<'de, R: Deserialize<'de>> Visitor<'de> for EventVisitor<R> {
    type Value = FeedEvent<R>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event of the feed, with `type` first")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FeedEvent<R>, A::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum First {
            Type,
        }
        #[derive(Deserialize)]
        struct Begin {
            version: FeedVersion,
            #[serde(default)]
            routes: Option<u64>,
        }
        #[derive(Deserialize)]
        struct Removed {
            tenant: TenantId,
            version: FeedVersion,
        }
        #[derive(Deserialize)]
        struct At {
            version: FeedVersion,
        }
        let Some(First::Type) = map.next_key()? else { return Err(A::Error::missing_field("type")) };
        let kind: Text<'_> = map.next_value()?;
        let rest = MapAccessDeserializer::new(map);
        match kind.as_str() {
            "snapshot_begin" => {
                Begin::deserialize(rest).map(|Begin { version, routes }| FeedEvent::SnapshotBegin { version, routes })
            }
            "cluster" => FeedCluster::deserialize(rest).map(FeedEvent::Cluster),
            "route" => R::deserialize(rest).map(|route| FeedEvent::Route(Box::new(route))),
            "removed" => {
                Removed::deserialize(rest).map(|Removed { tenant, version }| FeedEvent::Removed { tenant, version })
            }
            "snapshot_end" => At::deserialize(rest).map(|At { version }| FeedEvent::SnapshotEnd { version }),
            "lease" => ConnectionLease::deserialize(rest).map(FeedEvent::Lease),
            "heartbeat" => At::deserialize(rest).map(|At { version }| FeedEvent::Heartbeat { version }),
            other => Err(A::Error::unknown_variant(other, KINDS)),
        }
    }
}

/// Where a cluster is and how to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedCluster {
    /// The change that made it what it is.
    #[schema(value_type = i64)]
    pub version: FeedVersion,
    /// Its id.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// Host name, IP address or socket folder.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How connections are protected.
    #[schema(schema_with = schema::tls_mode)]
    pub tls_mode: TlsMode,
    /// PEM of the authority for `verify_ca` and `verify_full`; null means the system's.
    pub tls_ca: Option<String>,
    /// Its physical standbys, for reading; oldest first.
    #[serde(default)]
    pub replicas: Vec<FeedReplica>,
    /// Connections to it are leased to routers: most that a router may hold that was leased none yet. Absent where they
    /// are not leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unleased_connections: Option<u32>,
}

/// A physical standby of a cluster: roles, passwords and databases are the cluster's. The control plane looks at it every
/// few seconds; whoever reads from it makes sure that it still follows (`pg_is_in_recovery()`), and how far it is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedReplica {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ClusterReplicaId,
    /// Host name, IP address or socket folder.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How connections are protected.
    #[schema(schema_with = schema::tls_mode)]
    pub tls_mode: TlsMode,
    /// PEM of the authority for `verify_ca` and `verify_full`; null means the system's.
    pub tls_ca: Option<String>,
    /// Further behind than so many milliseconds, nothing is to be read from it.
    #[schema(value_type = u32, minimum = 1, maximum = 86_400_000)]
    pub lag_max_ms: LagMax,
}

impl FeedReplica {
    /// Host and port together.
    pub fn endpoint(&self) -> Result<Endpoint, InvalidName> {
        Endpoint::new(&self.host, self.port)
    }
}

impl FeedCluster {
    /// Host and port together.
    pub fn endpoint(&self) -> Result<Endpoint, InvalidName> {
        Endpoint::new(&self.host, self.port)
    }
}

/// A router's share of a cluster's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionLease {
    /// The cluster.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// Most connections that the router may hold there; null where what it had was taken back, because it was silent or
    /// used nothing, and it may hold `unleased_connections`.
    pub connections: Option<u32>,
    /// What the router acknowledges in its report once it holds no more.
    #[serde(default)]
    #[schema(value_type = i64)]
    pub serial: LeaseSerial,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn events_look_as_designed() {
        let begin: FeedEvent = FeedEvent::SnapshotBegin { version: FeedVersion(41), routes: None };
        assert_eq!(serde_json::to_string(&begin).expect("serialises"), r#"{"type":"snapshot_begin","version":41}"#);
        let begin = r#"{"type":"snapshot_begin","version":41,"routes":2}"#;
        let event = FeedEvent::SnapshotBegin { version: FeedVersion(41), routes: Some(2) };
        assert_eq!(serde_json::from_str::<FeedEvent>(begin).expect("valid"), event);
        let cluster = r#"{"type":"cluster","version":3,"cluster":"01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
            "host":"/tmp/sockets","port":5432,"tls_mode":"disable","tls_ca":null}"#;
        let event: FeedEvent = serde_json::from_str(cluster).expect("valid");
        assert_eq!(event.version(), Some(FeedVersion(3)));
        assert!(
            matches!(event, FeedEvent::Cluster(cluster) if cluster.replicas.is_empty()),
            "as it was before replicas"
        );
        for bad in [r#"{"type":"rumour"}"#, r#"{"version":41}"#, "{}", "[]", r#"{"type":"heartbeat"}"#] {
            assert!(serde_json::from_str::<FeedEvent>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        let (cluster, tenant) = (ClusterId::new(Uuid::from_u128(3)), TenantId::new(Uuid::from_u128(4)));
        let feed_cluster = FeedCluster {
            version: FeedVersion(1),
            cluster,
            host: "db.example.com".to_owned(),
            port: 5432,
            tls_mode: TlsMode::VerifyFull,
            tls_ca: None,
            replicas: Vec::new(),
            unleased_connections: Some(4),
        };
        let route = r#"{"type":"route","version":2,"tenant":"01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506","slug":"acme","hosts":[],
            "state":"provisioning","generation":0,"cluster":null,"database":null,"schema":null,"role":null,
            "credential":null,"read_only_credential":null,"limits":{},"pooling":"own","schema_version":0}"#;
        let route: FeedEvent = serde_json::from_str(route).expect("valid");
        let version = FeedVersion(5);
        let events = [
            FeedEvent::SnapshotBegin { version, routes: Some(7) },
            FeedEvent::SnapshotBegin { version, routes: None },
            FeedEvent::Cluster(feed_cluster),
            route,
            FeedEvent::Removed { tenant, version },
            FeedEvent::SnapshotEnd { version },
            FeedEvent::Lease(ConnectionLease { cluster, connections: Some(12), serial: LeaseSerial(3) }),
            FeedEvent::Lease(ConnectionLease { cluster, connections: None, serial: LeaseSerial(4) }),
            FeedEvent::Heartbeat { version },
        ];
        let mut kinds: Vec<String> = Vec::new();
        for event in events {
            let text = serde_json::to_value(&event).expect("serialises");
            kinds.extend(text["type"].as_str().map(str::to_owned));
            let line = serde_json::to_string(&event).expect("serialises");
            assert_eq!(serde_json::from_str::<FeedEvent>(&line).expect(&line), event);
        }
        kinds.dedup();
        assert_eq!(kinds, KINDS);
    }
}
