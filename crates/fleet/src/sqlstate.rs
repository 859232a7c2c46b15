//! SQLSTATEs of our own, raised by the functions that a home and the fence carry. Class `TN` is assigned to nobody.

/// `tenantry.attach`: tenant or generation is not the home's.
pub const WRONG_PLACEMENT: &str = "TN001";
/// `tenantry.attach`: the home does not serve its tenant now.
pub const NOT_ACTIVE: &str = "TN002";
/// The fence or the stamp was written under a later lease.
pub(crate) const STALE_EPOCH: &str = "TN003";
