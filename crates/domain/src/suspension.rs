//! Suspensions: why a tenant is shut out, by whom, since when and until when.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::TenantId;
use crate::name::InvalidName;
use crate::word::words;

words! {
    /// Why a tenant is suspended.
    SuspensionReason, "suspension reason", "use admin, payment, trial_ended or parent", {
        /// A person decided it.
        Admin => "admin",
        /// It owes money.
        Payment => "payment",
        /// Its trial is over; set when that time comes.
        TrialEnded => "trial_ended",
        /// A tenant above it was suspended together with all below; set by that.
        Parent => "parent",
    }
}

impl SuspensionReason {
    /// Whether a person may give it. The others follow from something else.
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::Admin | Self::Payment)
    }
}

/// A remark for people: 1 to 500 characters, no control characters, no blanks at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Note(String);

impl Note {
    /// The most characters.
    pub const MAX: usize = 500;

    /// Checks the length and refuses control characters.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let rule = "use 1 to 500 characters, no control characters, no blanks at either end";
        let is_valid = (1..=Self::MAX).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidName::new("note", rule, text)) }
    }

    /// The remark as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Note {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Note {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        note.0
    }
}

/// A suspension. As text it is its reason, with the note behind a colon where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Why.
    pub reason: SuspensionReason,
    /// More about it, for people.
    pub note: Option<Note>,
    /// Who asked for it.
    pub by: String,
    /// Since when; a second suspension does not change it.
    pub since: Timestamp,
    /// When it ends by itself; absent means never.
    pub until: Option<Timestamp>,
    /// For the reason `parent`: the tenant above whose suspension it is part of.
    pub with: Option<TenantId>,
}

impl fmt::Display for Suspension {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(formatter)?;
        self.note.as_ref().map_or(Ok(()), |note| write!(formatter, ": {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_a_line_of_text() {
        assert!(Note::parse("invoice 4711 is 60 days late").is_ok());
        for bad in ["", " padded", "two\nlines", &"x".repeat(501)] {
            assert!(Note::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_suspension_reads_as_its_reason_and_its_note() {
        let mut suspension = Suspension {
            reason: SuspensionReason::Payment,
            note: None,
            by: "billing".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            until: None,
            with: None,
        };
        assert_eq!(suspension.to_string(), "payment");
        suspension.note = Note::parse("invoice 4711").ok();
        assert_eq!(suspension.to_string(), "payment: invoice 4711");
    }
}
