//! `tenantry`: the one program. It assembles the other rooms and speaks to people.
//!
//! Here live the command line (`cli`), the program's configuration (`config`), the assembly of a control plane (`serve`)
//! and of a whole world on one machine (`dev`, `demo`, `world`, with the cluster provider of both, `local_provider`).
//! Never here: rules, SQL, HTTP handlers; they are in the rooms that this program puts together.
//!
//! Start reading at [`cli`], then [`serve`].

mod cli;
mod config;
mod data_directory;
mod demo;
mod dev;
mod local_provider;
mod master_keys;
mod serve;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
