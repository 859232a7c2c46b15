//! The texts of a route in few bytes: its slug, hosts, names of physical objects and passwords.
//!
//! Most of these names follow from the home's id, and passwords are hexadecimal, so a text is often one byte, or half as
//! long. Whatever does not fit such a form is kept as it is. The bytes are overwritten when they are dropped, because
//! passwords are among them. They stand in snapshot files, too: another form of them is another format of those.

use tenantry_domain::{Credential, DatabaseName, InvalidName, RoleName, RouteTarget, SchemaName, Secret, SharedAccess};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::terms::Terms;

/// The texts of one route.
pub(crate) struct Packed(Zeroizing<Box<[u8]>>);

/// How one text is written.
const LITERAL: u8 = 0;
const HEXADECIMAL: u8 = 1;
/// Hexadecimal of 32 bytes, as the passwords that the control plane makes.
const PASSWORD: u8 = 2;
const PUBLIC: u8 = 3;
const ABSENT: u8 = 4;
/// `h_<id>`, followed by a suffix of [`SUFFIXES`].
const OF_HOME: u8 = 5;
const SUFFIXES: [&str; 5] = ["", "_a", "_b", "_ro", "_app"];
const PASSWORD_BYTES: usize = 32;
/// Slugs, hosts and hexadecimal values have their length in one byte.
const SHORT_MAX: usize = u8::MAX as usize;

/// The texts of a route before they are packed, wherever they are.
pub(crate) struct Unpacked<'r> {
    pub(crate) slug: &'r str,
    pub(crate) hosts: Vec<&'r str>,
    pub(crate) target: Option<UnpackedTarget<'r>>,
}

/// Those of its target.
pub(crate) struct UnpackedTarget<'r> {
    pub(crate) database: &'r str,
    pub(crate) schema: &'r str,
    pub(crate) credential: UnpackedCredential<'r>,
    pub(crate) read_only_credential: UnpackedCredential<'r>,
    /// The login that is shared, and what it becomes.
    pub(crate) shared: Option<(UnpackedCredential<'r>, &'r str)>,
}

/// Those of a login.
pub(crate) struct UnpackedCredential<'r> {
    pub(crate) role: &'r str,
    pub(crate) password: Option<&'r str>,
}

impl<'r> From<&'r RouteTarget> for UnpackedTarget<'r> {
    fn from(target: &'r RouteTarget) -> Self {
        let shared = target.shared.as_ref();
        Self {
            database: target.database.as_str(),
            schema: target.schema.as_str(),
            credential: (&target.credential).into(),
            read_only_credential: (&target.read_only_credential).into(),
            shared: shared.map(|shared| ((&shared.credential).into(), shared.app.as_str())),
        }
    }
}

impl<'r> From<&'r Credential> for UnpackedCredential<'r> {
    fn from(credential: &'r Credential) -> Self {
        Self { role: credential.role.as_str(), password: credential.password.as_ref().map(Secret::expose) }
    }
}

impl UnpackedTarget<'_> {
    /// Whether the database is named after the home. Another is shared with others, or one of few.
    pub(super) fn has_own_database(&self) -> bool {
        let role = self.credential.role;
        role.strip_suffix("_a").or_else(|| role.strip_suffix("_b")) == Some(self.database)
    }
}

impl Packed {
    /// Packs them. `with_database`: whether the name of the database is kept here, and not in the [`Terms`].
    pub(crate) fn of(texts: &Unpacked<'_>, with_database: bool) -> Self {
        let home = texts.target.as_ref().and_then(|target| home_in(target.credential.role));
        let mut bytes = Vec::with_capacity(128);
        literal(&mut bytes, texts.slug);
        for host in &texts.hosts {
            literal(&mut bytes, host);
        }
        // No host is empty.
        bytes.push(0);
        if let Some(target) = &texts.target {
            bytes.push(u8::from(home.is_some()));
            bytes.extend(home.iter().flat_map(|(id, _)| id.as_bytes()));
            let home = home.map(|(_, digits)| digits);
            if with_database {
                write(&mut bytes, home, target.database);
            }
            write(&mut bytes, home, target.schema);
            let shared = target.shared.as_ref();
            let credentials = [&target.credential, &target.read_only_credential];
            for credential in credentials.into_iter().chain(shared.map(|(credential, _)| credential)) {
                write(&mut bytes, home, credential.role);
                match credential.password {
                    Some(password) => write(&mut bytes, home, password),
                    None => bytes.push(ABSENT),
                }
            }
            if let Some((_, app)) = shared {
                write(&mut bytes, home, app);
            }
        }
        let packed = Self(Zeroizing::new(bytes.as_slice().into()));
        drop(Zeroizing::new(bytes));
        packed
    }

    /// Takes over what was packed before.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, with passwords among them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The slug.
    pub(crate) fn slug(&self) -> &str {
        let length = self.0.first().map_or(0, |length| usize::from(*length));
        self.0.get(1..=length).and_then(|slug| std::str::from_utf8(slug).ok()).unwrap_or_default()
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        let mut rest = Reader(&self.0);
        rest.short();
        std::iter::from_fn(move || rest.short().filter(|host| !host.is_empty()))
    }

    /// The target, with what the terms say of it.
    pub(crate) fn target(&self, terms: &Terms) -> Option<RouteTarget> {
        let cluster = terms.cluster?;
        let mut rest = Reader(&self.0);
        while rest.short().is_some_and(|text| !text.is_empty()) {}
        let home = match rest.byte()? {
            0 => None,
            _ => Some(Uuid::from_slice(rest.bytes(16)?).ok()?),
        };
        let database = match &terms.database {
            Some(database) => database.clone(),
            None => parsed(rest.text(home), DatabaseName::parse)?,
        };
        let schema = parsed(rest.text(home), SchemaName::parse)?;
        let mut credential = || {
            let role = parsed(rest.text(home), RoleName::parse)?;
            Some(Credential { role, password: rest.text(home).map(|text| Secret::new(text.to_string())) })
        };
        let (own, read_only_credential, shared) = (credential()?, credential()?, credential());
        let shared = match shared {
            Some(credential) => Some(SharedAccess { credential, app: parsed(rest.text(home), RoleName::parse)? }),
            None => None,
        };
        Some(RouteTarget { cluster, database, schema, credential: own, read_only_credential, shared })
    }
}

fn parsed<T>(text: Option<Zeroizing<String>>, parse: fn(&str) -> Result<T, InvalidName>) -> Option<T> {
    parse(&text?).ok()
}

/// The id of the home that a role's name bears, and how it stands there.
fn home_in(role: &str) -> Option<(Uuid, &str)> {
    let digits = role.strip_prefix("h_")?.get(..32)?;
    let home = Uuid::try_parse(digits).ok()?;
    (home.simple().encode_lower(&mut Uuid::encode_buffer()) == digits).then_some((home, digits))
}

/// Which suffix follows the home's name, where the text is nothing else.
fn suffix_in(text: &str, home: &str) -> Option<u8> {
    let rest = text.strip_prefix("h_")?.strip_prefix(home)?;
    SUFFIXES.iter().position(|suffix| *suffix == rest).and_then(|suffix| u8::try_from(suffix).ok())
}

fn name_of(home: Uuid, suffix: &str) -> String {
    format!("h_{}{suffix}", home.simple())
}

fn write(bytes: &mut Vec<u8>, home: Option<&str>, text: &str) {
    if text == "public" {
        return bytes.push(PUBLIC);
    }
    if let Some(suffix) = home.and_then(|home| suffix_in(text, home)) {
        return bytes.push(OF_HOME + suffix);
    }
    let is_hexadecimal = text.len() >= 4
        && text.len().is_multiple_of(2)
        && text.len() / 2 <= SHORT_MAX
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hexadecimal {
        match text.len() / 2 {
            PASSWORD_BYTES => bytes.push(PASSWORD),
            length => bytes.extend([HEXADECIMAL, u8::try_from(length).unwrap_or_default()]),
        }
        let digits = text.as_bytes().chunks_exact(2);
        bytes.extend(digits.map(|pair| pair.iter().fold(0, |value, digit| value << 4 | value_of(*digit))));
        return;
    }
    bytes.push(LITERAL);
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn value_of(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([byte >> 4, byte & 0xf].into_iter().filter_map(|digit| char::from_digit(u32::from(digit), 16)));
    }
    text
}

/// A slug or a host: both are short by their rules.
fn literal(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(&text.as_bytes()[..text.len().min(SHORT_MAX)]);
}

/// What is not read yet.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn short(&mut self) -> Option<&'b str> {
        let length = self.byte()?;
        std::str::from_utf8(self.bytes(usize::from(length))?).ok()
    }

    /// A text; `None` for one that is absent.
    fn text(&mut self, home: Option<Uuid>) -> Option<Zeroizing<String>> {
        let text = match self.byte()? {
            ABSENT => return None,
            PUBLIC => "public".to_owned(),
            LITERAL => {
                let length = u32::from_le_bytes(self.bytes(4)?.try_into().ok()?);
                std::str::from_utf8(self.bytes(length as usize)?).ok()?.to_owned()
            }
            PASSWORD => hexadecimal(self.bytes(PASSWORD_BYTES)?),
            HEXADECIMAL => {
                let length = self.byte()?;
                hexadecimal(self.bytes(usize::from(length))?)
            }
            of_home => name_of(home?, SUFFIXES.get(usize::from(of_home - OF_HOME))?),
        };
        Some(Zeroizing::new(text))
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{ClusterId, HomeId, HomeNames, Limits};

    use super::*;

    const SLUG: &str = "airline-000017";

    fn target(names: &HomeNames, database: &str, password: &str) -> RouteTarget {
        RouteTarget {
            cluster: ClusterId::new(Uuid::from_u128(9)),
            database: DatabaseName::parse(database).expect("a name"),
            schema: SchemaName::parse("public").expect("a name"),
            credential: Credential { role: names.login_b.clone(), password: Some(Secret::new(password.to_owned())) },
            read_only_credential: Credential { role: names.read_only.clone(), password: None },
            shared: None,
        }
    }

    fn there_and_back(target: &RouteTarget, with_database: bool) -> usize {
        let texts = Unpacked { slug: SLUG, hosts: vec!["fly.example.com"], target: Some(target.into()) };
        let packed = Packed::of(&texts, with_database);
        let database = (!with_database).then(|| target.database.clone());
        let terms = Terms { cluster: Some(target.cluster), database, limits: Limits::default() };
        assert_eq!(packed.slug(), SLUG);
        assert_eq!(packed.hosts().collect::<Vec<_>>(), ["fly.example.com"]);
        assert_eq!(packed.target(&terms).as_ref(), Some(target));
        packed.0.len()
    }

    #[test]
    fn what_is_packed_comes_out_the_same() {
        let names = HomeNames::of(HomeId::new(Uuid::from_u128(0x0192_3f4a_5b6c_7d8e_9fa0_b1c2_d3e4_f506)));
        let own = DatabaseName::of_home(HomeId::new(Uuid::from_u128(0x0192_3f4a_5b6c_7d8e_9fa0_b1c2_d3e4_f506)));
        for password in ["", "x", "00ff", "00FF", "00f", &"ab".repeat(32), &"ab".repeat(400), "pässword", "public"] {
            for database in [own.as_str(), "s_01923f4a5b6c7d8e9fa0b1c2d3e4f506", "Adopted \"one\""] {
                for with_database in [true, false] {
                    let own = target(&names, database, password);
                    there_and_back(&own, with_database);
                    let shared = SharedAccess { credential: own.credential.clone(), app: names.app.clone() };
                    there_and_back(&RouteTarget { shared: Some(shared), ..own }, with_database);
                }
            }
        }
        let adopted = HomeNames { login_b: RoleName::parse("h_ACME").expect("a name"), ..names };
        there_and_back(&target(&adopted, "acme", "secret"), true);
    }

    #[test]
    fn the_names_and_passwords_that_we_make_are_short() {
        let home = HomeId::new(Uuid::from_u128(17));
        let target = target(&HomeNames::of(home), DatabaseName::of_home(home).as_str(), &"a0".repeat(32));
        assert!(there_and_back(&target, true) < 90);
    }

    #[test]
    fn a_route_without_a_target_has_its_names_only() {
        let packed = Packed::of(&Unpacked { slug: SLUG, hosts: Vec::new(), target: None }, false);
        assert_eq!((packed.slug(), packed.hosts().count()), (SLUG, 0));
        assert!(packed.target(&Terms { cluster: None, database: None, limits: Limits::default() }).is_none());
    }
}
