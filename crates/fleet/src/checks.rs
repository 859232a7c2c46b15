//! What is checked on a server before it is used, and every now and then afterwards.

use tenantry_domain::{Check, Endpoint, TlsMode};

use crate::quote::ident;
use crate::register::Inspection;
use crate::version;

/// Fewer free connections than this are told of.
const CONNECTIONS_FREE_FEW: u32 = 20;
/// A clock that is further off than this is told of.
const CLOCK_OFF_MAX_MS: u64 = 5_000;
/// How many databases are named where more are meant.
const NAMED_MAX: usize = 5;

impl Inspection {
    /// Every check on the server itself, in the order in which a person would make them. How it is reached is checked by
    /// [`tls_check`].
    pub fn checks(&self) -> Vec<Check> {
        vec![
            self.version(),
            self.privileges(),
            self.monitoring(),
            self.recovery(),
            self.encoding(),
            self.wal_level(),
            self.connections(),
            self.passwords(),
            self.durability(),
            self.clock(),
            self.public_access(),
        ]
    }

    fn version(&self) -> Check {
        let number = format!("{}.{}", self.server_version / 10_000, self.server_version % 10_000);
        if self.server_version < version::OLDEST {
            let found = format!("the server is PostgreSQL {number}, older than PostgreSQL 15");
            Check::failed("server_version", found, "upgrade it")
        } else {
            Check::passed("server_version", format!("PostgreSQL {number}"))
        }
    }

    fn privileges(&self) -> Check {
        if self.is_superuser {
            return Check::passed("privileges", "the admin is a superuser");
        }
        let needed = [
            (self.can_create_database, "CREATEDB", "ALTER ROLE … CREATEDB"),
            (self.can_create_role, "CREATEROLE", "ALTER ROLE … CREATEROLE"),
            (
                self.can_create_schema,
                "CREATE on its own database",
                "GRANT CREATE ON DATABASE … TO …, or name a database that it owns",
            ),
        ];
        let missing: Vec<_> = needed.iter().filter(|(has, ..)| !has).collect();
        if !missing.is_empty() {
            let what: Vec<_> = missing.iter().map(|(_, what, _)| *what).collect();
            let how: Vec<_> = missing.iter().map(|(_, _, how)| *how).collect();
            let found = format!("the admin is no superuser and lacks {}", what.join(", "));
            return Check::failed("privileges", found, format!("run as a superuser: {}", how.join("; ")));
        }
        if self.can_signal {
            Check::passed("privileges", "the admin has CREATEDB, CREATEROLE and pg_signal_backend")
        } else {
            Check::warning(
                "privileges",
                "the admin has CREATEDB and CREATEROLE, but not pg_signal_backend: it ends sessions of tenants by its \
                 membership in their roles only",
                "GRANT pg_signal_backend TO the admin, where the provider allows it",
            )
        }
    }

    fn monitoring(&self) -> Check {
        if self.can_monitor {
            Check::passed("monitoring", "the admin sees sessions and sizes of the whole server")
        } else {
            Check::warning(
                "monitoring",
                "the admin does not see other roles' sessions, so connections and sizes are counted too low",
                "GRANT pg_read_all_stats TO the admin",
            )
        }
    }

    fn recovery(&self) -> Check {
        if self.in_recovery {
            let advice = "give the address of the primary, or promote it";
            Check::failed("primary", "the server is a standby or in recovery and takes no writes", advice)
        } else {
            Check::passed("primary", "the server takes writes")
        }
    }

    fn encoding(&self) -> Check {
        let encoding = &self.locale.encoding;
        if encoding == "UTF8" {
            Check::passed("encoding", format!("UTF8, collation {}", self.locale.collate))
        } else {
            let found = format!("the server's encoding is {encoding}, not UTF8");
            Check::failed("encoding", found, "make a new server with `initdb --encoding=UTF8`")
        }
    }

    fn wal_level(&self) -> Check {
        let found = format!("wal_level is {}", self.wal_level);
        if self.wal_level == "logical" {
            Check::passed("wal_level", found)
        } else {
            let advice = "set wal_level = logical and restart, so that tenants can be moved away with a short pause";
            Check::warning("wal_level", found, advice)
        }
    }

    fn connections(&self) -> Check {
        let usable = self.connections_max.saturating_sub(self.connections_reserved);
        let free = usable.saturating_sub(self.connections_open);
        let found = format!(
            "{free} of {} connections are free: {} open, {} kept by the server",
            self.connections_max, self.connections_open, self.connections_reserved
        );
        if free == 0 {
            Check::failed("connections", found, "raise max_connections, or end some sessions")
        } else if free < CONNECTIONS_FREE_FEW {
            Check::warning("connections", found, "raise max_connections before many tenants arrive")
        } else {
            Check::passed("connections", found)
        }
    }

    fn passwords(&self) -> Check {
        let found = format!("password_encryption is {}", self.password_encryption);
        if self.password_encryption == "scram-sha-256" {
            Check::passed("password_encryption", found)
        } else {
            let advice = "set password_encryption = 'scram-sha-256'; tenants' own passwords are SCRAM in any case";
            Check::warning("password_encryption", found, advice)
        }
    }

    fn durability(&self) -> Check {
        if self.is_durable {
            Check::passed("durability", "what is committed survives a power cut")
        } else {
            let found = "fsync or full_page_writes is off: a power cut can lose or damage what was committed";
            Check::warning("durability", found, "turn both on wherever data matters")
        }
    }

    fn clock(&self) -> Check {
        let (off, ahead) = (self.clock_ahead_ms.unsigned_abs(), self.clock_ahead_ms > 0);
        let found = format!("the server's clock is {off} ms {} ours", if ahead { "ahead of" } else { "behind" });
        if off > CLOCK_OFF_MAX_MS {
            Check::warning("clock", found, "let both machines follow one time server")
        } else {
            Check::passed("clock", found)
        }
    }

    fn public_access(&self) -> Check {
        let open = &self.open_databases;
        if open.is_empty() {
            return Check::passed("public_access", "no database of the server is open to every role");
        }
        let named: Vec<_> = open.iter().take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
        let more = if open.len() > NAMED_MAX { format!(" and {} more", open.len() - NAMED_MAX) } else { String::new() };
        let found = format!("every role of the server may connect to {}{more}", named.join(", "));
        let advice = format!(
            "registering closes what the admin may close; for others run as their owner: REVOKE ALL ON DATABASE {} \
             FROM PUBLIC",
            open.first().map(|name| ident(name)).unwrap_or_default()
        );
        Check::warning("public_access", found, advice)
    }
}

/// How connections to the server are protected, once one was made with these settings: with `verify_ca` and
/// `verify_full` that it was made is the proof that the server's certificate comes from the authority.
pub fn tls_check(endpoint: &Endpoint, mode: TlsMode, has_authority: bool) -> Check {
    let authority = if has_authority { "the given authority" } else { "an authority that this system trusts" };
    if endpoint.host().starts_with('/') {
        return Check::passed("tls", "a unix socket: nothing leaves this machine");
    }
    match mode {
        TlsMode::Disable => Check::passed("tls", "not encrypted; the server is on this machine"),
        TlsMode::Require if has_authority => Check::warning(
            "tls",
            "encrypted, but the given authority is not looked at: tls_mode `require` takes any certificate",
            "use verify_full, or verify_ca where the certificate names another host",
        ),
        TlsMode::Require => Check::warning(
            "tls",
            "encrypted, but whoever answers is believed: tls_mode `require` takes any certificate",
            "use verify_full with the authority's certificate as tls_ca",
        ),
        TlsMode::VerifyCa => Check::passed(
            "tls",
            format!("encrypted; the server's certificate comes from {authority}, its host name is not looked at"),
        ),
        TlsMode::VerifyFull => Check::passed(
            "tls",
            format!("encrypted; the server's certificate comes from {authority} and names {}", endpoint.host()),
        ),
    }
}
