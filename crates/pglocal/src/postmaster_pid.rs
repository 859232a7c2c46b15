//! `postmaster.pid`: what a running server writes about itself into its data directory.

use std::path::Path;

/// The part of the file that matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PostmasterPid {
    pub(crate) pid: i32,
    /// The server says that it accepts connections.
    pub(crate) ready: bool,
}

impl PostmasterPid {
    /// `None` while the file is absent or half written.
    pub(crate) fn read(data_directory: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(data_directory.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        // Line 8; the same that `pg_ctl` waits for.
        let ready = lines.nth(6).is_some_and(|status| status.trim() == "ready");
        Some(Self { pid, ready })
    }
}

#[cfg(test)]
mod tests {
    use super::PostmasterPid;

    #[test]
    fn the_eighth_line_tells_whether_the_server_is_ready() {
        let starting = "4711\n/data\n1700000000\n5432\n/socket\n127.0.0.1\n  5432001    98304\nstarting\n";
        assert_eq!(PostmasterPid::parse(starting), Some(PostmasterPid { pid: 4711, ready: false }));
        let ready = starting.replace("starting", "ready   ");
        assert_eq!(PostmasterPid::parse(&ready), Some(PostmasterPid { pid: 4711, ready: true }));
    }

    #[test]
    fn a_half_written_file_is_not_ready() {
        assert_eq!(PostmasterPid::parse(""), None);
        assert_eq!(PostmasterPid::parse("4711\n/da"), Some(PostmasterPid { pid: 4711, ready: false }));
    }
}
