//! The ways to name a tenant.

use std::fmt;

use tenantry_domain::{HostName, Slug, TenantId};
use uuid::Uuid;

/// A tenant's id, slug or host, not yet looked up. Text is told apart by its shape: a UUID is an id, text with a dot is
/// a host, anything else a slug; no slug looks like a UUID or bears a dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantName<'a> {
    /// By id.
    Id(TenantId),
    /// By slug.
    Slug(&'a str),
    /// By host, in lower case and without a port.
    Host(&'a str),
}

impl<'a> From<&'a str> for TenantName<'a> {
    fn from(text: &'a str) -> Self {
        if text.contains('.') {
            Self::Host(text)
        } else if let Ok(uuid) = Uuid::try_parse(text) {
            Self::Id(TenantId::new(uuid))
        } else {
            Self::Slug(text)
        }
    }
}

impl<'a> From<&'a String> for TenantName<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

impl From<TenantId> for TenantName<'_> {
    fn from(id: TenantId) -> Self {
        Self::Id(id)
    }
}

impl<'a> From<&'a Slug> for TenantName<'a> {
    fn from(slug: &'a Slug) -> Self {
        Self::Slug(slug.as_str())
    }
}

impl<'a> From<&'a HostName> for TenantName<'a> {
    fn from(host: &'a HostName) -> Self {
        Self::Host(host.as_str())
    }
}

impl fmt::Display for TenantName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(formatter),
            Self::Slug(text) | Self::Host(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_apart_by_its_shape() {
        let uuid = "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506";
        assert!(matches!(TenantName::from(uuid), TenantName::Id(id) if id.to_string() == uuid));
        assert_eq!(TenantName::from("acme"), TenantName::Slug("acme"));
        assert_eq!(TenantName::from("acme.example.com"), TenantName::Host("acme.example.com"));
    }
}
