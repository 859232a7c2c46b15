//! Hosts: DNS names of a tenant's own.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{HostName, TenantId};
use utoipa::ToSchema;

/// A DNS name that leads to a tenant, besides its sub-domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantHost {
    /// The name.
    #[schema(value_type = String, example = "app.acme.com")]
    pub host: HostName,
    /// Whose it is.
    #[schema(value_type = Uuid)]
    pub tenant: TenantId,
    /// Given at.
    pub created_at: Timestamp,
}

/// Gives a tenant a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTenantHost {
    /// The name in lower case, without a port: at least two DNS labels, 253 characters at most; an international name in
    /// its `xn--` form.
    #[schema(value_type = String, example = "app.acme.com", max_length = 253)]
    pub host: HostName,
}
