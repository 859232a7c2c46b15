//! OpenAPI schemas of domain types, which know nothing of OpenAPI.

use tenantry_domain::{
    ClusterState, DeliveryState, DriftFilter, DriftState, EventKind, HealthState, Isolation, Limits, LockMode,
    OperationKind, OperationState, Origin, OrphanKind, OrphanVerdict, Pooling, ProviderKind, ReplicaState,
    RolloutState, RouteState, Scope, SuspensionReason, TargetState, Tenancy, TenantStatus, TlsMode, Verdict,
};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type,
};
use utoipa::openapi::{Array, RefOr, Schema};

macro_rules! words {
    ($($name:ident => $type:ty),+ $(,)?) => {
        $(pub(crate) fn $name() -> Object {
            enumeration(<$type>::ALL.iter().map(|word| word.as_str()))
        })+
    };
}

words! {
    cluster_state => ClusterState,
    delivery_state => DeliveryState,
    drift_filter => DriftFilter,
    event => EventKind,
    health_state => HealthState,
    isolation => Isolation,
    lock_mode => LockMode,
    operation_kind => OperationKind,
    operation_state => OperationState,
    origin => Origin,
    orphan_kind => OrphanKind,
    orphan_verdict => OrphanVerdict,
    pooling => Pooling,
    provider => ProviderKind,
    replica_state => ReplicaState,
    rollout_state => RolloutState,
    route_state => RouteState,
    suspension_reason => SuspensionReason,
    target_state => TargetState,
    tenancy => Tenancy,
    tenant_status => TenantStatus,
    tls_mode => TlsMode,
    verdict => Verdict,
}

fn enumeration<T: Into<serde_json::Value>>(words: impl Iterator<Item = T>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.map(Into::into))).build()
}

/// A drift state, or null.
pub(crate) fn optional_drift_state() -> Object {
    let words = DriftState::ALL.iter().map(|word| serde_json::Value::from(word.as_str()));
    ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(words.chain([serde_json::Value::Null])))
        .build()
}

/// A list of scopes.
pub(crate) fn scopes() -> Array {
    let scope = enumeration(Scope::all().into_iter().map(|scope| scope.to_string()));
    ArrayBuilder::new().items(scope).build()
}

/// A list of events.
pub(crate) fn events() -> Array {
    ArrayBuilder::new().items(event()).build()
}

/// Labels: strings by name.
pub(crate) fn labels() -> Object {
    let value = ObjectBuilder::new().schema_type(Type::String).max_length(Some(255));
    ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::from(RefOr::T(Schema::from(value.build())))))
        .max_properties(Some(tenantry_domain::Labels::MAX))
        .build()
}

/// A change of labels: strings or null by name.
pub(crate) fn labels_patch() -> Object {
    let value = ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::String, Type::Null]))
        .max_length(Some(255));
    ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(AdditionalProperties::from(RefOr::T(Schema::from(value.build())))))
        .build()
}

/// Ceilings of a plan; each absent one is "no ceiling".
pub(crate) fn limits() -> Object {
    with_limits().build()
}

/// A tenant's own limits, quotas and features.
pub(crate) fn overrides() -> Object {
    with_limits().property("quotas", quotas()).property("features", features_patch()).build()
}

fn with_limits() -> ObjectBuilder {
    Limits::NAMES.iter().fold(ObjectBuilder::new(), |limits, name| {
        let number = || ObjectBuilder::new().schema_type(Type::Integer);
        let value = match *name {
            "temporary_tables" | "shared_pooling" => ObjectBuilder::new().schema_type(Type::Boolean),
            "queued_requests" => number().minimum(Some(0)),
            _ => number().minimum(Some(1)),
        };
        limits.property(*name, value)
    })
}

/// Quotas: numbers by name.
pub(crate) fn quotas() -> Object {
    let value = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    named(value.build())
}

/// A change of quotas: numbers or null by name.
pub(crate) fn quotas_patch() -> Object {
    let types = utoipa::openapi::schema::SchemaType::from_iter([Type::Integer, Type::Null]);
    named(ObjectBuilder::new().schema_type(types).minimum(Some(0)).build())
}

/// A change of features: switches or null by name.
pub(crate) fn features_patch() -> Object {
    let types = utoipa::openapi::schema::SchemaType::from_iter([Type::Boolean, Type::Null]);
    named(ObjectBuilder::new().schema_type(types).build())
}

fn named(value: Object) -> Object {
    ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::from(RefOr::T(Schema::from(value)))))
        .max_properties(Some(tenantry_domain::plan::NAMED_MAX))
        .build()
}

/// How much a cluster takes.
pub(crate) fn cluster_limits() -> Object {
    let number = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    ObjectBuilder::new()
        .property("tenants", number())
        .property("databases", number())
        .property("schemas_per_database", number())
        .property("concurrent_creations", number())
        .property("connections", number())
        .property("router_connections", number())
        .property("disk_bytes", number())
        .build()
}

/// Whom a tenant should live beside, and whom not.
pub(crate) fn affinity() -> Object {
    with_affinity().build()
}

/// The same anew, or null.
pub(crate) fn affinity_patch() -> Object {
    with_affinity().schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::Object, Type::Null])).build()
}

fn with_affinity() -> ObjectBuilder {
    let apart = ObjectBuilder::new()
        .property("label", ObjectBuilder::new().schema_type(Type::String).max_length(Some(63)))
        .required("label")
        .property("required", ObjectBuilder::new().schema_type(Type::Boolean))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    ObjectBuilder::new()
        .property("apart", apart)
        .property("with_parent", ObjectBuilder::new().schema_type(Type::Boolean))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// Checks on a server.
pub(crate) fn checks() -> Array {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let check = ObjectBuilder::new()
        .property("name", text())
        .required("name")
        .property("verdict", verdict())
        .required("verdict")
        .property("found", text())
        .required("found")
        .property("advice", text());
    ArrayBuilder::new().items(check).build()
}

/// What lives on a cluster.
pub(crate) fn cluster_usage() -> Object {
    let number = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    ObjectBuilder::new()
        .property("homes", number())
        .required("homes")
        .property("databases", number())
        .required("databases")
        .property("warm", number())
        .required("warm")
        .property("connections", number())
        .required("connections")
        .property("disk_bytes", nullable(Type::Integer))
        .build()
}

/// What was last seen of a cluster.
pub(crate) fn cluster_health() -> Object {
    let time = || nullable(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let number = || ObjectBuilder::new().schema_type(Type::Integer);
    let observed = ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::Object, Type::Null]))
        .property("server_version", number())
        .property("in_recovery", ObjectBuilder::new().schema_type(Type::Boolean))
        .property("connections_max", number())
        .property("connections_reserved", number())
        .property("connections_open", number())
        .property("databases", number())
        .property("disk_bytes", number())
        .property("disk_measured_at", time())
        .property("clock_ahead_ms", number());
    ObjectBuilder::new()
        .property("state", health_state())
        .required("state")
        .property("seen_at", time())
        .property("checked_at", time())
        .property("failures", number())
        .required("failures")
        .property("error", nullable(Type::String))
        .property("observed", observed)
        .property("checks", checks())
        .required("checks")
        .property("findings", ArrayBuilder::new().items(ObjectBuilder::new().schema_type(Type::String)))
        .required("findings")
        .build()
}

/// What was last seen of a replica.
pub(crate) fn replica_health() -> Object {
    let time = || {
        ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
    };
    ObjectBuilder::new()
        .property("state", replica_state())
        .required("state")
        .property("lag_ms", nullable(Type::Integer))
        .property("seen_at", time())
        .required("seen_at")
        .property("checked_at", time())
        .required("checked_at")
        .property("failures", ObjectBuilder::new().schema_type(Type::Integer))
        .required("failures")
        .property("error", nullable(Type::String))
        .build()
}

fn nullable(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(utoipa::openapi::schema::SchemaType::from_iter([kind, Type::Null]))
}

/// Price fields of a plan.
pub(crate) fn price() -> Object {
    ObjectBuilder::new()
        .property("currency", ObjectBuilder::new().schema_type(Type::String))
        .property("monthly_minor", ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)))
        .property("yearly_minor", ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)))
        .property("setup_minor", ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)))
        .build()
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use crate::{Cluster, CreateTenant, RegisterCluster, Tenant, UpdateCluster, UpdateTenant};

    fn schema_of<T: PartialSchema>() -> serde_json::Value {
        serde_json::to_value(T::schema()).expect("a schema is JSON")
    }

    #[test]
    fn schemas_say_what_is_needed_and_that_nothing_else_is_accepted() {
        for (schema, required) in [
            (schema_of::<CreateTenant>(), serde_json::json!(["slug"])),
            (
                schema_of::<RegisterCluster>(),
                serde_json::json!(["name", "region", "tenancy", "host", "port", "user", "password"]),
            ),
            (schema_of::<UpdateTenant>(), serde_json::Value::Null),
            (schema_of::<UpdateCluster>(), serde_json::Value::Null),
        ] {
            assert_eq!(schema["required"], required, "{schema:#}");
            assert_eq!(schema["additionalProperties"], false, "{schema:#}");
        }
        assert_eq!(schema_of::<Tenant>()["properties"]["status"]["enum"][1], "active");
    }

    #[test]
    fn no_answer_about_a_cluster_has_a_place_for_its_password() {
        let schema = schema_of::<Cluster>();
        let properties = schema["properties"].as_object().expect("an object");
        assert!(properties.keys().all(|name| !name.contains("password") && !name.contains("credential")));
    }
}
