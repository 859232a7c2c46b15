//! A million tenants, each made from its number.

use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, HomeId, HomeNames, Limits, Route, RouteState,
    RouteTarget, SchemaName, SchemaVersion, Secret, Slug, TenantId,
};
use uuid::Uuid;

pub(crate) const BASE_DOMAIN: &str = "example.com";
/// One tenant in so many has a host of its own, besides the sub-domain that all have.
const OWN_HOST_EVERY: usize = 10;

/// The tenants.
pub(crate) struct Crowd {
    ids: Box<[Uuid]>,
}

impl Crowd {
    pub(crate) fn of(count: usize) -> Self {
        Self { ids: (0..count).map(|_| Uuid::now_v7()).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn id(&self, number: usize) -> TenantId {
        TenantId::new(self.ids[number])
    }

    pub(crate) fn slug(number: usize) -> String {
        format!("air-{number:07}")
    }

    pub(crate) fn host(number: usize) -> String {
        if number.is_multiple_of(OWN_HOST_EVERY) {
            format!("fly{number:07}.net")
        } else {
            format!("{}.{BASE_DOMAIN}", Self::slug(number))
        }
    }

    /// As the control plane makes them: names after the home's id, passwords of 32 random bytes.
    pub(crate) fn route(&self, number: usize) -> Route {
        let home = HomeId::new(Uuid::from_u128(scattered(number, 1)));
        let names = HomeNames::of(home);
        let password =
            |salt| Some(Secret::new(format!("{:032x}{:032x}", scattered(number, salt), scattered(number, salt + 1))));
        let own_host = number.is_multiple_of(OWN_HOST_EVERY).then(|| Self::host(number).parse().expect("a host"));
        Route {
            version: FeedVersion(1),
            tenant: self.id(number),
            slug: Slug::parse(&Self::slug(number)).expect("a slug"),
            hosts: own_host.into_iter().collect(),
            state: RouteState::Active,
            generation: Generation(1),
            target: Some(RouteTarget {
                cluster: ClusterId::new(Uuid::from_u128(number as u128 % 40)),
                database: DatabaseName::of_home(home),
                schema: SchemaName::public(),
                credential: Credential { role: names.login_a, password: password(2) },
                read_only_credential: Credential { role: names.read_only, password: password(4) },
                shared: None,
            }),
            limits: Limits { pool_size: Some(8), connections: Some(20), ..Limits::default() },
            schema_version: SchemaVersion(17),
        }
    }

    /// The same tenant after so many changes.
    pub(crate) fn changed(&self, number: usize, times: i64) -> Route {
        Route { version: FeedVersion(1 + times), schema_version: SchemaVersion(17 + times), ..self.route(number) }
    }
}

/// A number that looks random (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn scattered(number: usize, salt: u64) -> u128 {
    let mix = |seed: u64| {
        let once = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        twice ^ (twice >> 31)
    };
    let seed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt << 56);
    u128::from(mix(seed)) << 64 | u128::from(mix(!seed))
}
