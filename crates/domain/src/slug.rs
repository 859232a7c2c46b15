//! The slug: a tenant's name in URLs, host names and connection strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, is_dns_label};

/// Names that would shadow a host or a database that is not a tenant's.
const RESERVED: &[&str] = &[
    "admin",
    "api",
    "app",
    "auth",
    "console",
    "dashboard",
    "docs",
    "ftp",
    "health",
    "healthz",
    "help",
    "internal",
    "localhost",
    "login",
    "mail",
    "metrics",
    "postgres",
    "public",
    "root",
    "smtp",
    "static",
    "status",
    "support",
    "system",
    "template0",
    "template1",
    "tenantry",
    "test",
    "www",
];

/// What stands where a slug would in `/v1/tenants/{tenant}`: a tenant called so could be named by its id only. Apart from
/// [`RESERVED`], because the catalog may hold slugs that are older than such a word, and those must stay readable.
const WORDS_OF_URLS: &[&str] = &["adopt", "bulk"];

/// A DNS label that names one tenant. Not reserved, and never in the shape of a UUID, so that "id or slug" in a URL is
/// never ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

impl Slug {
    /// Parses a slug; the error says which rule was broken.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Whether the text is a slug, without a copy of it.
    pub fn check(text: &str) -> Result<(), InvalidName> {
        let refuse = |rule| Err(InvalidName::new("slug", rule, text));
        if !is_dns_label(text) {
            return refuse("use 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end");
        }
        if RESERVED.contains(&text) {
            return refuse("this name is reserved; choose another");
        }
        if text.starts_with("xn--") {
            return refuse("punycode labels (`xn--…`) can imitate other names; choose another");
        }
        if uuid::Uuid::try_parse(text).is_ok() {
            return refuse("it has the shape of a UUID; choose another");
        }
        Ok(())
    }

    /// Whether a new tenant may be called so: not by a word that stands beside tenants in URLs.
    pub fn check_new(&self) -> Result<(), InvalidName> {
        if WORDS_OF_URLS.contains(&self.as_str()) {
            let rule = "this name is a word of the API's own URLs; choose another";
            return Err(InvalidName::new("slug", rule, self.as_str()));
        }
        Ok(())
    }

    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Slug {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Slug {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::check(&text)?;
        Ok(Self(text))
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> String {
        slug.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_dns_label_that_is_neither_reserved_nor_a_uuid() {
        for good in ["acme", "9e", "b6", "air-france", "a"] {
            assert!(Slug::parse(good).is_ok(), "{good}");
        }
        let uuid = "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506";
        for bad in ["", "Acme", "a_b", "-a", "a-", "a.b", "www", "api", "xn--caf-dma", uuid, &uuid.replace('-', "")] {
            assert!(Slug::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_new_tenant_is_called_by_a_word_of_the_urls_and_an_old_one_may_be() {
        for (slug, is_fine) in [("acme", true), ("bulk", false), ("adopt", false), ("bulk-1", true)] {
            assert_eq!(Slug::parse(slug).expect("readable").check_new().is_ok(), is_fine, "{slug}");
        }
    }
}
