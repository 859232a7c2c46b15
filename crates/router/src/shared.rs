//! Connections that tenants of one database share.
//!
//! A route may name a login that several tenants of its database have in common. Its connections are kept in one stash for
//! the database, as that login, which may do nothing but become one of the tenants ([`assume`]). A tenant's pool opens none
//! of its own then: it borrows one and becomes the tenant ([`borrower`]), and what comes back is made as good as new
//! ([`reset`]) and goes to the stash, whoever asks next. So the connections follow the load, not the number of tenants.
//!
//! It keeps tenants apart as long as their statements are the program's: one who can send statements of his own can also
//! send `RESET ROLE`.

mod assume;
mod borrower;
mod loan;
mod reset;
mod stash;
mod stashes;

pub(crate) use self::borrower::Borrower;
pub(crate) use self::stash::{Lent, take_back};
pub(crate) use self::stashes::Stashes;
