//! The request's host, and whom it names.

use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::request::Parts;

use super::answer::TenantRejection;
use super::{Source, header};
use crate::name::TenantName;
use crate::router::Router;

/// The request's host in lower case, without a port. HTTP/2 has it in the URI.
pub(super) fn of(parts: &Parts) -> Result<Option<String>, TenantRejection> {
    let authority = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => header::only_value(&parts.headers, &HOST)?,
    };
    Ok(authority.map(|authority| {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        host.trim_end_matches('.').to_ascii_lowercase()
    }))
}

/// The tenant's name in a host, if it is one of the kind that the source is about.
pub(super) fn name_in<'h>(host: &'h str, source: &Source, router: &Router) -> Option<TenantName<'h>> {
    match (source, router.inner().slug_in(host)) {
        (Source::SubDomain, Some(slug)) => Some(TenantName::Slug(slug)),
        (Source::CustomHost, None) if router.inner().base_domain.as_deref() != Some(host) && !is_address(host) => {
            Some(TenantName::Host(host))
        }
        _ => None,
    }
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse::<IpAddr>().is_ok()
}
