//! Connections that the tenants of a database share.

mod crowd;
mod fence;
mod homes;
mod leaks;
mod replica;
mod turns;
