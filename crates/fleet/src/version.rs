//! What differs between PostgreSQL 15, 16, 17 and 18, and nothing else.

use tenantry_domain::ClusterLocale;

use crate::error::FleetError;
use crate::quote::{ident, literal};

/// The oldest server that is taken: schema `public` without `CREATE` for everybody, ICU databases.
pub(crate) const OLDEST: i32 = 150_000;

/// `server_version` (`15.18 (Debian …)`, `18beta1`) as `server_version_num`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    let mut numbers = text.split(|byte: char| !byte.is_ascii_digit()).map(str::parse::<i32>);
    let major = numbers.next()?.ok()?;
    let minor = if text.chars().find(|byte| !byte.is_ascii_digit()) == Some('.') {
        numbers.next().and_then(Result::ok).unwrap_or(0)
    } else {
        0
    };
    major.checked_mul(10_000)?.checked_add(minor)
}

/// How many of `max_connections` the server keeps back: 16 and newer also know a number for privileged roles.
pub(crate) const fn reserved_connections_column(server_version: i32) -> &'static str {
    if server_version >= 160_000 {
        "current_setting('superuser_reserved_connections')::int + current_setting('reserved_connections')::int"
    } else {
        "current_setting('superuser_reserved_connections')::int"
    }
}

/// Makes the admin a member with everything that membership gives. From 16 on whoever creates a role may pass it on but
/// neither inherits from it nor becomes it until told so.
pub(crate) fn grant_to_admin(version: i32, roles: &str, admin: &str) -> String {
    let options = if version >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    format!("GRANT {roles} TO {}{options};\n", ident(admin))
}

/// Lets the migrator become the owner. From 16 on it holds none of the owner's rights until it does.
pub(crate) fn grant_to_migrator(version: i32, owner: &str, migrator: &str) -> String {
    format!("GRANT {} TO {}{};\n", ident(owner), ident(migrator), membership_options(version))
}

/// How a migrator is a member of an owner.
pub(crate) const fn membership_options(version: i32) -> &'static str {
    if version >= 160_000 { " WITH INHERIT FALSE, SET TRUE" } else { "" }
}

/// The options of `CREATE DATABASE … TEMPLATE template0` for a locale.
pub(crate) fn locale_options(version: i32, locale: &ClusterLocale) -> Result<String, FleetError> {
    let own = locale.provider_locale.as_deref();
    let provider = match (locale.provider.as_str(), own) {
        ("libc", _) => String::new(),
        ("icu", Some(own)) => format!(" ICU_LOCALE {}", literal(own)),
        ("builtin", Some(own)) if version >= 170_000 => format!(" BUILTIN_LOCALE {}", literal(own)),
        (provider, _) => {
            return Err(FleetError::refused(format!(
                "the cluster's locale provider `{provider}` cannot be used on this server version; register it again"
            )));
        }
    };
    Ok(format!(
        "ENCODING {} LC_COLLATE {} LC_CTYPE {} LOCALE_PROVIDER {}{provider}",
        literal(&locale.encoding),
        literal(&locale.collate),
        literal(&locale.ctype),
        ident(&locale.provider),
    ))
}

/// The column of `pg_database` with the provider's own locale.
pub(crate) fn provider_locale_column(version: i32) -> &'static str {
    if version >= 170_000 { "datlocale" } else { "daticulocale" }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn server_versions_are_read_as_the_server_counts_them() {
        assert_eq!(parse("15.18 (Debian 15.18-0+deb12u1)"), Some(150_018));
        assert_eq!(parse("18beta1"), Some(180_000));
        assert_eq!(parse("17.0"), Some(170_000));
        assert_eq!(parse(""), None);
    }
}
