//! Private PostgreSQL clusters, started and stopped from the server binaries that are installed.
//!
//! What lives here: finding the binaries, making a data directory (`initdb`, cached and copied, or `pg_basebackup` for
//! one that follows another), starting the server as an unprivileged user, and making sure that it ends with its owner: on [`Cluster::stop`], on drop,
//! on panic, and when the owning process is killed.
//!
//! What never lives here: a download, a client connection, SQL on anybody's data, other rooms of Tenantry.
//!
//! Start reading at [`Cluster`] and [`ClusterBuilder`]; `launch.rs` shows the start in one piece.
//!
//! A cluster's directory, made by this crate and locked while a program uses it:
//!
//! ```text
//! DIR/lock             held by the program that owns the cluster; contains its process id
//! DIR/cluster.json     superuser password and last TCP port; readable by its owner only
//! DIR/postgresql.conf  settings, rewritten at every start; `ALTER SYSTEM` wins over them
//! DIR/pg_hba.conf      SCRAM everywhere
//! DIR/server.log       what the server says; the previous one is kept once it has grown
//! DIR/socket/          the Unix socket, unless the path is too long for one
//! DIR/data/            the data directory proper, owned by the server's user, mode 0700
//! ```
//!
//! When the owner is root, the server's processes run as `postgres` or else `nobody`, and only `data` and
//! `socket` belong to that user: nothing that root writes can be redirected by the server.
//!
//! The end of the owning process is noticed by the kernel on Linux (a parent-death signal). Elsewhere, and for
//! temporary clusters everywhere, a small shell process waits for the owner's end on a pipe.

mod binaries;
mod builder;
mod cache;
mod cluster;
mod death_signal;
mod directory_lock;
mod error;
mod file_tree;
mod initialise;
mod launch;
mod leftovers;
mod postmaster_pid;
mod scratch;
mod server_process;
mod server_user;
mod settings;
mod standby;
mod state_file;
mod system_identifier;
mod version;
mod warden;

pub use binaries::{BINARIES_VARIABLE, Binaries};
pub use builder::{ClusterBuilder, Listen, Profile};
pub use cluster::Cluster;
pub use error::Error;
pub use version::{OLDEST_SUPPORTED, Version};
