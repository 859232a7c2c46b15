//! Whom to look at, and where the next call goes on.

use jiff::Timestamp;
use tenantry_domain::TenantStatus;
use tenantry_store::{DriftSubject, PageRequest, StoreError, TenantFilter, TenantRef};

use super::{CHECKED_MAX, CheckDrift};
use crate::control::Control;
use crate::error::ControlError;

/// A choice of tenants. Only those that are active or suspended are ever looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriftSelection {
    /// These, at most [`CHECKED_MAX`].
    Tenants(Vec<TenantRef>),
    /// Those that bear a label; without a value, any value will do.
    Label(String, Option<String>),
    /// Everybody.
    All,
    /// So many that were not looked at for the longest time.
    Sample(u32),
}

/// Those whom one call looks at, and who comes after them.
pub(super) struct Chosen {
    pub(super) subjects: Vec<DriftSubject>,
    order: Order,
}

/// What tells where to go on.
enum Order {
    /// The place in the list that was named, and its length.
    Named { from: usize, of: usize },
    /// The ids of tenants, of which so many are left with these.
    Ids { left: u64 },
    /// The time at which the first call began, and how many are wanted from then on.
    Sample { began: Timestamp, wanted: u32, asked: u32 },
}

impl Chosen {
    /// After so many of them: where the next call goes on, and how many are left for it.
    pub(super) fn rest(&self, done: usize) -> (Option<String>, u64) {
        let number = done as u64;
        match self.order {
            Order::Named { from, of } => {
                let next = from + done;
                ((next < of).then(|| next.to_string()), of.saturating_sub(next) as u64)
            }
            Order::Ids { left } => {
                let left = left.saturating_sub(number);
                let last = done.checked_sub(1).and_then(|last| self.subjects.get(last));
                (last.filter(|_| left > 0).map(|last| last.tenant.to_string()), left)
            }
            Order::Sample { began, wanted, asked } => {
                // Where fewer were found than were asked for, nobody else is there.
                let is_cut = done < self.subjects.len() || self.subjects.len() >= asked as usize;
                let left = if is_cut { u64::from(wanted).saturating_sub(number) } else { 0 };
                ((left > 0).then(|| format!("{began},{left}")), left)
            }
        }
    }
}

pub(super) async fn choose(control: &Control, wish: &CheckDrift) -> Result<Chosen, ControlError> {
    if !(1..=CHECKED_MAX).contains(&wish.limit) {
        return Err(ControlError::invalid("/limit", format!("use 1 to {CHECKED_MAX}")));
    }
    match &wish.selection {
        DriftSelection::Tenants(named) => by_name(control, named, wish).await,
        DriftSelection::Label(key, value) => by_filter(control, wish, vec![(key.clone(), value.clone())]).await,
        DriftSelection::All => by_filter(control, wish, Vec::new()).await,
        DriftSelection::Sample(number) => sample(control, *number, wish).await,
    }
}

async fn by_name(control: &Control, named: &[TenantRef], wish: &CheckDrift) -> Result<Chosen, ControlError> {
    if named.is_empty() || named.len() > CHECKED_MAX as usize {
        return Err(ControlError::invalid("/tenants", format!("name 1 to {CHECKED_MAX} tenants")));
    }
    let from = match &wish.cursor {
        Some(cursor) => cursor.parse().map_err(|_| bad_cursor())?,
        None => 0,
    };
    let mut subjects = Vec::new();
    for name in named.iter().skip(from).take(wish.limit as usize) {
        let tenant = match control.store().tenant(name).await {
            Ok(tenant) => tenant,
            Err(StoreError::NotFound { .. }) => {
                return Err(ControlError::invalid("/tenants", format!("there is no tenant `{name}`")));
            }
            Err(error) => return Err(error.into()),
        };
        let status = tenant.state.status();
        match tenant.state.placement() {
            Some(placement) if matches!(status, TenantStatus::Active | TenantStatus::Suspended) => {
                let (home, cluster) = (placement.home.id, placement.home.cluster);
                subjects.push(DriftSubject { tenant: tenant.id, home, cluster });
            }
            _ => {
                return Err(ControlError::InvalidState {
                    reason: format!(
                        "tenant `{}` is {status}; only active or suspended ones are looked at",
                        tenant.slug
                    ),
                });
            }
        }
    }
    Ok(Chosen { subjects, order: Order::Named { from, of: named.len() } })
}

async fn by_filter(
    control: &Control,
    wish: &CheckDrift,
    labels: Vec<(String, Option<String>)>,
) -> Result<Chosen, ControlError> {
    let filter =
        TenantFilter { status: vec![TenantStatus::Active, TenantStatus::Suspended], labels, ..TenantFilter::default() };
    let page = PageRequest { limit: wish.limit, cursor: wish.cursor.clone() };
    let (tenants, left) = tokio::try_join!(control.store().tenants(&filter, &page), async {
        control.store().count_tenants(&filter, &page).await
    })?;
    let subject = |tenant: tenantry_domain::Tenant| {
        let home = &tenant.state.placement()?.home;
        Some(DriftSubject { tenant: tenant.id, home: home.id, cluster: home.cluster })
    };
    Ok(Chosen { subjects: tenants.items.into_iter().filter_map(subject).collect(), order: Order::Ids { left } })
}

async fn sample(control: &Control, number: u32, wish: &CheckDrift) -> Result<Chosen, ControlError> {
    let (began, wanted) = match &wish.cursor {
        None => (Timestamp::now(), number),
        Some(cursor) => {
            let (began, left) = cursor.split_once(',').ok_or_else(bad_cursor)?;
            (began.parse().map_err(|_| bad_cursor())?, left.parse().map_err(|_| bad_cursor())?)
        }
    };
    if wanted == 0 {
        return Err(ControlError::invalid("/sample", "use a number from 1 on".to_owned()));
    }
    let asked = wanted.min(wish.limit);
    let subjects = control.store().drift_due(began, began, asked).await?;
    Ok(Chosen { subjects, order: Order::Sample { began, wanted, asked } })
}

fn bad_cursor() -> ControlError {
    ControlError::invalid("/cursor", "the cursor is not one that a call gave; begin again without it".to_owned())
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{ClusterId, HomeId, TenantId};
    use uuid::Uuid;

    use super::*;

    fn chosen(number: usize, order: Order) -> Chosen {
        let subject = || DriftSubject {
            tenant: TenantId::new(Uuid::now_v7()),
            home: HomeId::new(Uuid::now_v7()),
            cluster: ClusterId::new(Uuid::now_v7()),
        };
        Chosen { subjects: std::iter::repeat_with(subject).take(number).collect(), order }
    }

    #[test]
    fn a_call_that_was_cut_goes_on_behind_what_was_done() {
        let named = chosen(3, Order::Named { from: 2, of: 5 });
        assert_eq!(named.rest(2), (Some("4".to_owned()), 1));
        assert_eq!(named.rest(3), (None, 0));
        let by_id = chosen(3, Order::Ids { left: 3 });
        assert_eq!(by_id.rest(1), (Some(by_id.subjects[0].tenant.to_string()), 2));
        assert_eq!(by_id.rest(3), (None, 0));
        assert_eq!(chosen(0, Order::Ids { left: 0 }).rest(0), (None, 0));
        let began = Timestamp::UNIX_EPOCH;
        let sample = |number, asked| chosen(number, Order::Sample { began, wanted: 10, asked });
        assert_eq!(sample(3, 3).rest(3), (Some("1970-01-01T00:00:00Z,7".to_owned()), 7));
        assert_eq!(sample(2, 3).rest(2), (None, 0), "everybody was looked at");
        assert_eq!(sample(2, 3).rest(1).1, 9, "time was up before that");
    }
}
