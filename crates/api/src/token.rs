//! API tokens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{DisplayName, ScopeSet, TenantId, TokenId};
use utoipa::ToSchema;

use crate::reference::TenantRef;
use crate::schema;
use crate::secret::SecretText;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: TokenId,
    /// What it is for.
    #[schema(value_type = String, example = "ci")]
    pub name: DisplayName,
    /// What it may do.
    #[schema(schema_with = schema::scopes)]
    pub scopes: ScopeSet,
    /// The only tenant that it may touch; null for all.
    #[schema(value_type = Option<Uuid>)]
    pub tenant: Option<TenantId>,
    /// Made at.
    pub created_at: Timestamp,
    /// No longer accepted from then on.
    pub expires_at: Option<Timestamp>,
    /// Last seen at, to a minute or so.
    pub last_used_at: Option<Timestamp>,
}

/// A new token: the one answer that bears its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// The text to send as `Authorization: Bearer …`. Shown this once.
    #[schema(value_type = String, format = Password)]
    pub secret: SecretText,
}

/// Creates a token. Nobody grants more than they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for.
    #[schema(value_type = String, example = "ci", max_length = 200)]
    pub name: DisplayName,
    /// What it may do.
    #[schema(schema_with = schema::scopes)]
    pub scopes: ScopeSet,
    /// The only tenant that it may touch, by id or slug; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantRef>,
    /// No longer accepted from then on; never unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}
