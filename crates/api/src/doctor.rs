//! The doctor: whether catalog and clusters agree and the audit log is whole, checked now.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::query::PageLimit;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorFinding {
    /// The check that found it, such as `stamps`.
    pub check: String,
    /// About what: `tenant/<slug>`, `operation/<id>`, `cluster/<name>`, a physical name, ….
    pub subject: String,
    /// What is wrong, and what to do where that can be said.
    pub message: String,
}

/// What a round of checks found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorReport {
    /// How many things were looked at.
    pub checked: u64,
    /// What is wrong. Empty is well.
    pub findings: Vec<DoctorFinding>,
    /// Where the next round goes on; null when all is looked at.
    pub next: Option<String>,
}

/// How far one round goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DoctorQuery {
    /// Most homes in this round, or hundreds of entries of the audit log, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the round before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
