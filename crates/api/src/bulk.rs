//! Many tenants in one call.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{Note, PlanName, Slug, SuspensionReason, TenantId};
use utoipa::{IntoParams, ToSchema};

use crate::operation::Operation;
use crate::problem::Problem;
use crate::query::{GraceSeconds, WaitSeconds};
use crate::schema;
use crate::tenant::ListTenants;

/// The media type of rows with a heading.
pub const CSV: &str = "text/csv";
/// The media type of one JSON value in each line: rows of a request, results of an answer.
pub const JSON_LINES: &str = "application/x-ndjson";
/// Rows of one call, and tenants that one action reaches, at most.
pub const ROWS_MAX: usize = 10_000;

/// How long each result is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct BulkQuery {
    /// Holds the result of each tenant until its work is finished or parked, for so many seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u8>, maximum = 60)]
    pub wait: Option<WaitSeconds>,
}

/// What to do to each tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum BulkAction {
    /// Give it another plan.
    ChangePlan {
        /// Which.
        #[schema(value_type = String, example = "team")]
        plan: PlanName,
    },
    /// Shut it out. One that is suspended already stays as it is, its reason and its end included.
    Suspend {
        /// Why: `admin` or `payment`; `admin` unless given.
        #[schema(schema_with = schema::suspension_reason, required = false)]
        reason: SuspensionReason,
        /// More about it, for people.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, max_length = 500)]
        note: Option<Note>,
        /// When it ends by itself; never unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Let it in again.
    Resume {
        /// Whether those below it that were suspended together with it are resumed too; they are unless told otherwise.
        #[schema(required = false)]
        subtree: bool,
    },
    /// Delete it with all its data.
    Delete {
        /// For how many seconds that can be taken back; as configured (7 days) unless given, 0 for not at all.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<u32>, maximum = 31_536_000)]
        grace: Option<GraceSeconds>,
    },
}

/// Does the same to every tenant that a filter finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "BulkFields")]
pub struct BulkChange {
    /// What to do.
    #[serde(flatten)]
    pub action: BulkAction,
    /// Which tenants: an object of the filters that `GET /v1/tenants` takes, `{"labels": "tier=free"}`. At least one.
    #[schema(value_type = Object)]
    pub filter: ListTenants,
    /// Only count, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// How many tenants the caller expects to reach, as a dry run has counted them. With another number nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// A change as it is read: every field by itself, so that a mistake is pointed at and an unknown field refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BulkFields {
    action: ActionName,
    plan: Option<PlanName>,
    reason: Option<SuspensionReason>,
    note: Option<Note>,
    until: Option<Timestamp>,
    subtree: Option<bool>,
    grace: Option<GraceSeconds>,
    filter: ListTenants,
    #[serde(default)]
    dry_run: bool,
    expected: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionName {
    ChangePlan,
    Suspend,
    Resume,
    Delete,
}

impl ActionName {
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ChangePlan => &["plan"],
            Self::Suspend => &["reason", "note", "until"],
            Self::Resume => &["subtree"],
            Self::Delete => &["grace"],
        }
    }
}

impl TryFrom<BulkFields> for BulkChange {
    type Error = String;

    fn try_from(fields: BulkFields) -> Result<Self, String> {
        let BulkFields { action, plan, reason, note, until, subtree, grace, filter, dry_run, expected } = fields;
        let given = [
            ("plan", plan.is_some()),
            ("reason", reason.is_some()),
            ("note", note.is_some()),
            ("until", until.is_some()),
            ("subtree", subtree.is_some()),
            ("grace", grace.is_some()),
        ];
        let takes = action.fields();
        if let Some((name, _)) = given.iter().find(|(name, is_given)| *is_given && !takes.contains(name)) {
            return Err(format!("`{name}` is of no use to this action, which takes `{}`", takes.join("`, `")));
        }
        let action = match action {
            ActionName::ChangePlan => BulkAction::ChangePlan { plan: plan.ok_or("missing field `plan`")? },
            ActionName::Suspend => {
                BulkAction::Suspend { reason: reason.unwrap_or(SuspensionReason::Admin), note, until }
            }
            ActionName::Resume => BulkAction::Resume { subtree: subtree.unwrap_or(true) },
            ActionName::Delete => BulkAction::Delete { grace },
        };
        Ok(Self { action, filter, dry_run, expected })
    }
}

/// What came of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkOutcome {
    /// Done.
    Done,
    /// Begun; the operation goes on, or waits for a person.
    Accepted,
    /// It was so already, or an earlier call under the same `Idempotency-Key` has begun it.
    Known,
    /// Refused; the problem says why.
    Refused,
    /// Begun, and it failed; the operation says why.
    Failed,
}

/// One tenant of a bulk call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkResult {
    /// Its number among the rows, from 1.
    pub row: u64,
    /// Its slug, where the row had one.
    #[schema(value_type = Option<String>)]
    pub slug: Option<Slug>,
    /// What came of it.
    pub outcome: BulkOutcome,
    /// Its id, where there is one.
    #[schema(value_type = Option<Uuid>)]
    pub tenant: Option<TenantId>,
    /// The operation that was begun.
    pub operation: Option<Operation>,
    /// Why it was refused.
    pub problem: Option<Problem>,
}

/// How many tenants came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkSummary {
    /// All of them.
    pub rows: u64,
    /// Done.
    pub done: u64,
    /// Begun.
    pub accepted: u64,
    /// So already.
    pub known: u64,
    /// Refused.
    pub refused: u64,
    /// Failed.
    pub failed: u64,
    /// Whether nothing was done, because only a count was asked for.
    pub dry_run: bool,
}

impl BulkSummary {
    /// Counts one more result.
    pub fn count(&mut self, outcome: BulkOutcome) {
        self.rows += 1;
        *match outcome {
            BulkOutcome::Done => &mut self.done,
            BulkOutcome::Accepted => &mut self.accepted,
            BulkOutcome::Known => &mut self.known,
            BulkOutcome::Refused => &mut self.refused,
            BulkOutcome::Failed => &mut self.failed,
        } += 1;
    }

    /// Whether everything is done or goes on.
    pub const fn is_well(&self) -> bool {
        self.refused == 0 && self.failed == 0
    }
}

/// One line of the answer: results in the order of the rows, and the summary last. An answer without one broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BulkLine {
    /// One tenant.
    Result(Box<BulkResult>),
    /// The end.
    Summary(BulkSummary),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_names_itself_and_what_it_needs() {
        let read = |text: &str| serde_json::from_str::<BulkChange>(text);
        let change =
            read(r#"{"action": "change_plan", "plan": "team", "filter": {"labels": "tier=free"}}"#).expect("valid");
        assert!(matches!(change.action, BulkAction::ChangePlan { .. }));
        assert_eq!((change.dry_run, change.expected), (false, None));
        let suspend = read(r#"{"action": "suspend", "filter": {}, "dry_run": true}"#).expect("valid").action;
        let reason = SuspensionReason::Admin;
        assert_eq!(suspend, BulkAction::Suspend { reason, note: None, until: None });
        let resume = read(r#"{"action": "resume", "filter": {}, "expected": 3}"#).expect("valid");
        assert_eq!((resume.action.clone(), resume.expected), (BulkAction::Resume { subtree: true }, Some(3)));
        for change in [change, resume] {
            assert_eq!(read(&serde_json::to_string(&change).expect("serialises")).expect("read back"), change);
        }
        for bad in [
            r#"{"action": "explode", "filter": {}}"#,
            r#"{"action": "change_plan", "filter": {}}"#,
            r#"{"action": "suspend", "plan": "team", "filter": {}}"#,
            r#"{"action": "suspend", "filter": {}, "untill": "2030-01-01T00:00:00Z"}"#,
            r#"{"action": "delete", "reason": "payment", "filter": {}}"#,
            r#"{"action": "delete", "filter": {"colour": "red"}}"#,
            r#"{"action": "delete"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
