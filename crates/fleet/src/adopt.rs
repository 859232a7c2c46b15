//! Adopting a database or a schema that was made elsewhere, as it is, without copying.
//!
//! [`survey`] looks, [`take_over`] hands everything to a home's roles and shuts nobody out, [`give_back`] undoes that, and
//! [`seal`] ends the rights of whoever was there before. Nothing that the old owners wrote is evaluated on the way.

mod give_back;
mod grants;
mod objects;
mod seal;
mod survey;
mod take_over;

pub(crate) use give_back::leave;
pub use survey::{Found, Survey, SurveyedHistory, SurveyedOwner};
pub use take_over::Belongings;
