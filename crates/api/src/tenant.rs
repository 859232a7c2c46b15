//! Tenants.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{
    Affinity, ClusterId, DisplayName, Generation, HostName, Isolation, Labels, MigrationSetId, Note, Overrides,
    PlanName, Region, SchemaVersion, SeedRef, Slug, SuspensionReason, TenantId, TenantStatus,
};
use utoipa::{IntoParams, ToSchema};

use crate::operation::Operation;
use crate::patch::{LabelsPatch, OverridesPatch, Patch, never_null};
use crate::placement::Placement;
use crate::query::{CommaSeparated, GraceSeconds, PageLimit, WaitSeconds};
use crate::reference::{ClusterRef, TenantRef};
use crate::schema;

/// One customer organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its id, never reused.
    #[schema(value_type = Uuid)]
    pub id: TenantId,
    /// Its name in URLs and hosts.
    #[schema(value_type = String, example = "acme")]
    pub slug: Slug,
    /// Its name for people.
    #[schema(value_type = String, example = "Acme Airlines")]
    pub name: DisplayName,
    /// Where it stands.
    #[schema(schema_with = schema::tenant_status)]
    pub status: TenantStatus,
    /// Its plan.
    #[schema(value_type = String, example = "team")]
    pub plan: PlanName,
    /// Where its data must be.
    #[schema(value_type = String, example = "local")]
    pub region: Region,
    /// What it has to itself.
    #[schema(schema_with = schema::isolation)]
    pub isolation: Isolation,
    /// The cluster that its home is on; null while it has none.
    #[schema(value_type = Option<Uuid>)]
    pub cluster: Option<ClusterId>,
    /// The tenant above it.
    #[schema(value_type = Option<Uuid>)]
    pub parent: Option<TenantId>,
    /// Marks for selecting.
    #[schema(schema_with = schema::labels)]
    pub labels: Labels,
    /// Hosts that lead to it, besides its sub-domain.
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostName>,
    /// Its own limits, quotas and features, in place of the plan's.
    #[schema(schema_with = schema::overrides)]
    pub overrides: Overrides,
    /// Whom it should live beside, and whom not, in place of what its plan wishes.
    #[serde(default)]
    #[schema(schema_with = schema::affinity)]
    pub affinity: Affinity,
    /// The highest migration applied; 0 for none.
    #[schema(value_type = i64)]
    pub schema_version: SchemaVersion,
    /// Rises with every change of its placement; 0 before the first.
    #[schema(value_type = i64)]
    pub generation: Generation,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
    /// End of its trial.
    pub trial_ends_at: Option<Timestamp>,
    /// Why it is suspended or failed.
    pub status_reason: Option<String>,
    /// The suspension that it is in, or that it comes back to when its deletion is taken back.
    pub suspension: Option<Suspension>,
    /// Until then its deletion can be taken back; null where nothing can.
    pub deletes_at: Option<Timestamp>,
}

/// Why a tenant is shut out, by whom, since when and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Suspension {
    /// Why.
    #[schema(schema_with = schema::suspension_reason)]
    pub reason: SuspensionReason,
    /// More about it.
    #[schema(value_type = Option<String>, max_length = 500)]
    pub note: Option<Note>,
    /// The token that asked for it; `tenantry` for what the control plane did by itself.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; null for never.
    pub until: Option<Timestamp>,
    /// For the reason `parent`: the tenant above whose suspension it is part of.
    #[schema(value_type = Option<Uuid>)]
    pub with: Option<TenantId>,
}

impl From<tenantry_domain::Suspension> for Suspension {
    fn from(suspension: tenantry_domain::Suspension) -> Self {
        let tenantry_domain::Suspension { reason, note, by, since, until, with } = suspension;
        Self { reason, note, by, since, until, with }
    }
}

impl Tenant {
    /// The tenant as the contract shows it.
    pub fn of(tenant: tenantry_domain::Tenant) -> Self {
        Self {
            id: tenant.id,
            slug: tenant.slug,
            name: tenant.name,
            status: tenant.state.status(),
            plan: tenant.plan,
            region: tenant.region,
            isolation: tenant.isolation,
            cluster: tenant.state.placement().map(|placement| placement.home.cluster),
            parent: tenant.parent,
            labels: tenant.labels,
            hosts: tenant.hosts,
            overrides: tenant.overrides,
            affinity: tenant.affinity,
            schema_version: tenant.schema_version,
            generation: tenant.generation,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
            trial_ends_at: tenant.trial_ends_at,
            status_reason: tenant.state.reason(),
            suspension: tenant.state.suspension().cloned().map(Suspension::from),
            deletes_at: tenant.state.grace().map(|grace| grace.ends_at),
        }
    }
}

/// Long work on a tenant has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantWithOperation {
    /// What is changed.
    pub tenant: Tenant,
    /// The work.
    pub operation: Operation,
}

/// What a suspension or a resumption has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantWithSubtree {
    /// The tenant that was named.
    pub tenant: Tenant,
    /// The work on it.
    pub operation: Operation,
    /// Those below it that are taken along, with the work on each.
    pub below: Vec<TenantWithOperation>,
}

/// Shuts a tenant out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SuspendTenant {
    /// Why: `admin` or `payment`; `admin` unless given. The other reasons follow from something else.
    #[schema(schema_with = schema::suspension_reason, required = false)]
    pub reason: SuspensionReason,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub note: Option<Note>,
    /// When it ends by itself; never unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether everything below it is suspended too, with the reason `parent`; not unless asked.
    pub subtree: bool,
}

impl Default for SuspendTenant {
    fn default() -> Self {
        Self { reason: SuspensionReason::Admin, note: None, until: None, subtree: false }
    }
}

/// Lets a suspended tenant in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResumeTenant {
    /// Whether those below it that were suspended together with it are resumed too; they are unless told otherwise.
    pub subtree: bool,
}

impl Default for ResumeTenant {
    fn default() -> Self {
        Self { subtree: true }
    }
}

/// Where a tenant's schema goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateDown {
    /// The version that it has in the end: one of the set's, or 0 for before the first.
    #[schema(value_type = i64, minimum = 0, example = 6)]
    pub version: SchemaVersion,
    /// By whose down files; the promoted set's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub migration_set: Option<MigrationSetId>,
}

/// How to delete a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DeleteTenant {
    /// For how many seconds the deletion can be taken back; as configured (7 days) unless given, 0 for not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u32>, maximum = 31_536_000)]
    pub grace: Option<GraceSeconds>,
    /// Holds the answer until its home is gone, or, with grace, until the tenant is shut out; for so many seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u8>, maximum = 60)]
    pub wait: Option<WaitSeconds>,
}

impl DeleteTenant {
    /// At once, without a way back, and without waiting for it.
    pub fn at_once() -> Self {
        Self { grace: GraceSeconds::new(0).ok(), wait: None }
    }
}

/// Creates a tenant. Only the slug is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// Its name in URLs and hosts: a DNS label, unique for ever, and no word of URLs such as `bulk`.
    #[schema(value_type = String, example = "acme", max_length = 63)]
    pub slug: Slug,
    /// Its name for people; the slug unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub name: Option<DisplayName>,
    /// Its plan; `developer` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "team")]
    pub plan: Option<PlanName>,
    /// Where its data must be, a region or a region group; the control plane's default unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub region: Option<Region>,
    /// What it has to itself; the plan's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::isolation)]
    pub isolation: Option<Isolation>,
    /// The tenant above it, by id or slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<TenantRef>,
    /// Marks for selecting.
    #[serde(default)]
    #[schema(schema_with = schema::labels)]
    pub labels: Labels,
    /// Its own limits, quotas and features, in place of the plan's.
    #[serde(default)]
    #[schema(schema_with = schema::overrides)]
    pub overrides: Overrides,
    /// End of its trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ends_at: Option<Timestamp>,
    /// The cluster to place it on, by id or name; chosen unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cluster: Option<ClusterRef>,
    /// What its home is filled with before anybody is let in: a seed by name or digest; the plan's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub seed: Option<SeedRef>,
    /// Whether its home is filled with nothing although its plan names a seed. Not together with `seed`, where null and
    /// absent both mean the plan's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_seed: bool,
    /// Whom it should live beside, and whom not, in place of what the plan wishes.
    #[serde(default, skip_serializing_if = "Affinity::is_empty")]
    #[schema(schema_with = schema::affinity)]
    pub affinity: Affinity,
}

/// How to create a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct CreateTenantQuery {
    /// Holds the answer until the work is finished or parked, for so many seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u8>, maximum = 60)]
    pub wait: Option<WaitSeconds>,
    /// Checks and decides everything, answers what it came to, and records nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[param(value_type = Option<bool>)]
    pub dry_run: bool,
}

/// What creating a tenant would come to. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantPreview {
    /// Its name in URLs and hosts; it is free now.
    #[schema(value_type = String, example = "acme")]
    pub slug: Slug,
    /// Its name for people.
    #[schema(value_type = String)]
    pub name: DisplayName,
    /// The tenant above it.
    #[schema(value_type = Option<Uuid>)]
    pub parent: Option<TenantId>,
    /// Where its home would go, under which plan and limits, or why nowhere.
    pub placement: Placement,
}

/// What `POST /v1/tenants` answers with where nothing was created: for the documentation.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum CreateTenantAnswer {
    /// The tenant could not be provisioned.
    Begun(Box<TenantWithOperation>),
    /// It was a dry run.
    Preview(Box<TenantPreview>),
}

impl CreateTenant {
    /// A tenant with every default.
    pub fn new(slug: Slug) -> Self {
        Self {
            slug,
            name: None,
            plan: None,
            region: None,
            isolation: None,
            parent: None,
            labels: Labels::default(),
            overrides: Overrides::default(),
            trial_ends_at: None,
            cluster: None,
            seed: None,
            no_seed: false,
            affinity: Affinity::default(),
        }
    }
}

/// Changes a tenant. Absent fields stay; see [`LabelsPatch`] and [`OverridesPatch`] for what null does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateTenant {
    /// Its new name for people.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, max_length = 200)]
    pub name: Option<DisplayName>,
    /// Its new plan. Isolation does not follow: that is a move.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub plan: Option<PlanName>,
    /// Labels to set, or to remove by null; null for the whole removes all.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(schema_with = schema::labels_patch, required = false)]
    pub labels: Patch<LabelsPatch>,
    /// Limits, quotas and features to set, or to remove by null; null for the whole removes all.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<OverridesPatch>)]
    pub overrides: Patch<OverridesPatch>,
    /// The tenant above it, by id or slug; null for none.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>)]
    pub parent: Patch<TenantRef>,
    /// The end of its trial; null for no trial. A tenant whose trial has ended is resumed after this is moved.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>)]
    pub trial_ends_at: Patch<Timestamp>,
    /// Whom it should live beside, and whom not, anew as a whole; null for what its plan wishes. It counts wherever a
    /// place is chosen from now on; the home does not move by itself.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(schema_with = schema::affinity_patch, required = false)]
    pub affinity: Patch<Affinity>,
}

/// Which tenants to list. Filters are joined by "and".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListTenants {
    /// Statuses, separated by commas.
    #[serde(skip_serializing_if = "CommaSeparated::is_empty")]
    #[param(value_type = Option<String>, example = "active,suspended")]
    pub status: CommaSeparated<TenantStatus>,
    /// On this plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub plan: Option<PlanName>,
    /// In this region.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub region: Option<Region>,
    /// With this isolation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::isolation, required = false)]
    pub isolation: Option<Isolation>,
    /// On this cluster, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub cluster: Option<ClusterRef>,
    /// Directly under this tenant, by id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub parent: Option<TenantRef>,
    /// Anywhere under this tenant, by id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub below: Option<TenantRef>,
    /// Labels, separated by commas: `key` (present) or `key=value`. A value with a comma cannot be asked for.
    #[serde(skip_serializing_if = "CommaSeparated::is_empty")]
    #[param(value_type = Option<String>, example = "tier=gold,pilot")]
    pub labels: CommaSeparated<LabelSelector>,
    /// Whose slug begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(max_length = 63)]
    pub slug_prefix: Option<String>,
    /// Whose schema is below this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub schema_version_below: Option<SchemaVersion>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A label that a tenant must bear: `key` with any value, or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector {
    /// The label's key.
    pub key: String,
    /// Its value, if that matters.
    pub value: Option<String>,
}

impl std::str::FromStr for LabelSelector {
    type Err = tenantry_domain::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        let probe = [(key.to_owned(), value.clone().unwrap_or_default())];
        Labels::new(probe.into())?;
        Ok(Self { key: key.to_owned(), value })
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.key)?;
        self.value.as_ref().map_or(Ok(()), |value| write!(formatter, "={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_enough_to_create_a_tenant() {
        let create: CreateTenant = serde_json::from_str(r#"{"slug": "acme"}"#).expect("valid");
        assert_eq!(create, CreateTenant::new(Slug::parse("acme").expect("valid")));
    }

    #[test]
    fn an_update_merges_and_never_clears_a_name() {
        let update: UpdateTenant =
            serde_json::from_str(r#"{"labels": {"a": null}, "overrides": null}"#).expect("valid");
        assert_eq!(update.name, None);
        assert!(matches!(update.labels, Patch::Set(_)));
        assert_eq!(update.overrides, Patch::Clear);
        assert!(serde_json::from_str::<UpdateTenant>(r#"{"name": null}"#).is_err());
        assert!(serde_json::from_str::<UpdateTenant>(r#"{"slug": "other"}"#).is_err());
        assert_eq!(serde_json::to_string(&UpdateTenant::default()).expect("serialises"), "{}");
    }

    #[test]
    fn a_label_selector_has_a_key_and_perhaps_a_value() {
        let selector: LabelSelector = "tier=gold".parse().expect("valid");
        assert_eq!((selector.key.as_str(), selector.value.as_deref()), ("tier", Some("gold")));
        assert_eq!(selector.to_string(), "tier=gold");
        assert!("=gold".parse::<LabelSelector>().is_err());
    }
}
