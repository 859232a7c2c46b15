//! Why a call failed, by what the caller can do about it.

use std::error::Error;
use std::time::Duration;

use crate::problem::{Code, Problem};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The control plane answered with a problem.
    #[error("{problem}")]
    Problem {
        /// What it said.
        problem: Box<Problem>,
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
    },
    /// No answer: not reachable, cut off, or too slow. Whether the request took effect is unknown.
    #[error("the control plane at {url} does not answer; check that it runs and that the address is right")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The client refused to send anything.
    #[error("{reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
        /// What happened, if anything did.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The answer is not what the contract says: most likely something else listens there, or another version.
    #[error("the answer from {url} (status {status}) is not what a control plane says: {detail}")]
    Unexpected {
        /// Who answered.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
}

impl ClientError {
    pub(super) fn refused(reason: &str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused { reason: reason.to_owned(), source: Some(Box::new(source)) }
    }

    /// The problem's code, if there is a problem.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem { problem, .. } => Some(problem.code),
            Self::Unreachable { .. } | Self::Refused { .. } | Self::Unexpected { .. } => None,
        }
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem { problem, retry_after } => retry_after.is_some() || problem.code == Code::Unavailable,
            Self::Unreachable { .. } => true,
            Self::Unexpected { status, .. } => matches!(status, 502..=504),
            Self::Refused { .. } => false,
        }
    }

    /// When to try again, if the control plane said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::Refused { .. } | Self::Unexpected { .. } => None,
        }
    }
}
