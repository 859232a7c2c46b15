//! `tenantry completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::error::CliError;
use super::{Arguments, Context, examples};

/// Which shell.
#[derive(Debug, Args)]
#[command(after_help = examples!(
    "tenantry completions bash > /etc/bash_completion.d/tenantry",
    "tenantry completions zsh > \"${fpath[1]}/_tenantry\"",
    "tenantry completions fish > ~/.config/fish/completions/tenantry.fish",
))]
pub(crate) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

impl CompletionsArguments {
    pub(crate) fn run(&self, context: &Context) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "tenantry", &mut script);
        context.output.raw(&String::from_utf8_lossy(&script))
    }
}
