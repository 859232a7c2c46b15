//! Who takes part: the airlines of the data, each as the tenant that it becomes.

use std::cmp::Reverse;

use tenantry_api::CreateTenant;
use tenantry_domain::{DisplayName, InvalidName, PlanName, Slug};
use tenantry_sample::Dataset;

/// How many airlines after the biggest are on plan `team`.
const TEAMS: usize = 5;

/// One airline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Airline {
    /// Its code, such as `UA`.
    pub(super) code: String,
    /// The tenant's slug: the code in lower case.
    pub(super) slug: Slug,
    /// Its name.
    pub(super) name: DisplayName,
    /// What it pays for.
    pub(super) plan: PlanName,
    /// Its flights in the source file.
    pub(super) flights: u64,
}

impl Airline {
    /// What is sent to the control plane.
    pub(super) fn wish(&self) -> CreateTenant {
        CreateTenant {
            name: Some(self.name.clone()),
            plan: Some(self.plan.clone()),
            ..CreateTenant::new(self.slug.clone())
        }
    }
}

/// All airlines, the one with the most flights first.
pub(super) fn cast(data: &Dataset) -> Result<Vec<Airline>, InvalidName> {
    let flights = data.flights_by_carrier();
    let mut by_size: Vec<_> = data
        .airlines()
        .iter()
        .map(|airline| (airline, flights.get(airline.code.as_str()).copied().unwrap_or_default()))
        .collect();
    // The code decides between equals, so that every run has the same cast.
    by_size.sort_by_key(|(airline, flights)| (Reverse(*flights), airline.code.clone()));
    by_size
        .into_iter()
        .enumerate()
        .map(|(rank, (airline, flights))| {
            Ok(Airline {
                code: airline.code.clone(),
                slug: Slug::parse(&airline.code.to_ascii_lowercase())?,
                name: DisplayName::parse(&airline.name)?,
                plan: PlanName::parse(plan_of(rank))?,
                flights: u64::try_from(flights).unwrap_or(u64::MAX),
            })
        })
        .collect()
}

/// The plan by rank in size, from 0.
fn plan_of(rank: usize) -> &'static str {
    match rank {
        0 => "enterprise",
        1..=TEAMS => "team",
        _ => "developer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_biggest_airline_is_on_the_largest_plan_and_every_code_is_a_slug() {
        let cast = cast(&Dataset::read().expect("the data")).expect("valid names");
        let slugs = |plan: &str| -> Vec<&str> {
            cast.iter().filter(|airline| airline.plan.as_str() == plan).map(|airline| airline.slug.as_str()).collect()
        };
        assert_eq!(slugs("enterprise"), ["ua"]);
        assert_eq!(slugs("team"), ["b6", "ev", "dl", "aa", "mq"]);
        assert_eq!(slugs("developer").len(), 10);
        assert!(slugs("developer").contains(&"9e"));
        assert_eq!(cast.iter().map(|airline| airline.flights).sum::<u64>(), 27_004);
        assert_eq!(cast.last().map(|airline| airline.code.as_str()), Some("OO"));
    }

    #[test]
    fn a_wish_names_slug_name_and_plan_and_leaves_the_rest_to_defaults() {
        let cast = cast(&Dataset::read().expect("the data")).expect("valid names");
        let wish = cast[0].wish();
        assert_eq!(wish.name.as_ref().map(DisplayName::as_str), Some("United Air Lines Inc."));
        assert_eq!((wish.isolation, wish.region), (None, None));
    }
}
