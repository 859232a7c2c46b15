//! Whom a tenant should live beside, and whom not, on the command line.

use clap::Args;
use tenantry_domain::{Affinity, Apart};

use super::error::CliError;
use super::table::Cell;

/// Wishes about neighbours.
#[derive(Debug, Args)]
pub(crate) struct AffinityArguments {
    /// Keep away from tenants that bear the same value of this label, where that can be done
    #[arg(long, value_name = "LABEL", conflicts_with = "strictly_apart")]
    apart: Option<String>,
    /// Keep away from tenants that bear the same value of this label, rather without a home than beside one
    #[arg(long, value_name = "LABEL")]
    strictly_apart: Option<String>,
    /// Prefer the cluster of the parent
    #[arg(long)]
    with_parent: bool,
}

impl AffinityArguments {
    /// The wishes that were given.
    pub(crate) fn read(&self) -> Result<Affinity, CliError> {
        let apart = match (&self.apart, &self.strictly_apart) {
            (Some(label), _) => Some(Apart::new(label, false)),
            (None, Some(label)) => Some(Apart::new(label, true)),
            (None, None) => None,
        };
        Ok(Affinity {
            apart: apart.transpose().map_err(|error| CliError::usage(error.to_string()))?,
            with_parent: self.with_parent.then_some(true),
        })
    }
}

/// The wishes for people.
pub(crate) fn cell(affinity: &Affinity) -> Cell {
    let apart = affinity.apart.as_ref().map(|apart| {
        let how = if apart.required { "strictly apart" } else { "apart" };
        format!("{how} by label {}", apart.label)
    });
    let beside = (affinity.with_parent == Some(true)).then(|| "with its parent".to_owned());
    Cell::joined(apart.into_iter().chain(beside))
}
