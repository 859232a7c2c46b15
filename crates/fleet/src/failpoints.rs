//! Failpoints: places where a test makes the program die, fail, wait or lose an answer.
//!
//! Only in builds with the feature `failpoints`; others hold none of this. A directory arms them: a file named after a
//! point, `provision.migrate.before` for example, holds the [`Action`] to be taken there. A point is named after an
//! operation's step, or `fleet.` and the words with which a statement is described. Where `@` and a scope follow
//! (`provision.migrate.before@0192…`, an operation's id), only work within that scope takes the action.
//!
//! Each arming counts once, whichever of any number of processes comes first: the file is renamed to end in
//! [`TAKEN`]. Removing that file lets go whoever waits there. Only what fails for good goes on failing until then: a
//! worker that loses its lease before the failure is recorded leaves it to the next one.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The variable that names the directory, for a program that is started to be tested.
pub const VARIABLE: &str = "TENANTRY_FAILPOINTS";
/// What the name of a file ends in once its action is taken.
pub const TAKEN: &str = ".taken";
/// The file in the directory to which every point that is passed is appended, if the file exists.
pub const RECORD: &str = "record";
/// The longest that anybody waits at a point: a test that died lets nobody wait for ever.
const WAIT_MAX: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process kills itself, as `kill -9` does.
    Kill,
    /// The process stops itself, as `SIGSTOP` does, until somebody sends `SIGCONT`; the work goes on once the file is
    /// removed as well.
    Stop,
    /// The work is dropped where it stands, as by a worker that died: its lease stays until it runs out.
    Abandon,
    /// The step fails, and may be tried again.
    Fail,
    /// The step fails, and trying again will not help.
    FailForGood,
    /// The step is performed a second time at once.
    Repeat,
    /// The connection is closed after the statement was done; its answer is lost.
    Cut,
    /// The work waits until the file is removed; its lease is kept.
    Pause,
    /// The task does nothing at all until the file is removed, not even keep its lease.
    Freeze,
}

impl Action {
    const ALL: [Self; 9] = [
        Self::Kill,
        Self::Stop,
        Self::Abandon,
        Self::Fail,
        Self::FailForGood,
        Self::Repeat,
        Self::Cut,
        Self::Pause,
        Self::Freeze,
    ];

    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Abandon => "abandon",
            Self::Fail => "fail",
            Self::FailForGood => "fail_for_good",
            Self::Repeat => "repeat",
            Self::Cut => "cut",
            Self::Pause => "pause",
            Self::Freeze => "freeze",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text.trim())
    }
}

/// Where failpoints are armed. The default arms none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failpoints {
    directory: Option<Arc<Path>>,
}

impl Failpoints {
    /// Armed by the files of a directory.
    pub fn at(directory: &Path) -> Self {
        Self { directory: Some(directory.into()) }
    }

    /// Armed by the directory that [`VARIABLE`] names, if it is set.
    pub fn from_environment() -> Self {
        Self { directory: std::env::var_os(VARIABLE).map(|directory| PathBuf::from(directory).into()) }
    }

    /// Runs work whose points are passed under the scope's name.
    pub async fn within<F: Future>(&self, scope: String, work: F) -> F::Output {
        match &self.directory {
            Some(directory) => SCOPE.scope(Scope { directory: Arc::clone(directory), name: scope.into() }, work).await,
            None => work.await,
        }
    }
}

#[derive(Clone)]
struct Scope {
    directory: Arc<Path>,
    name: Arc<str>,
}

tokio::task_local! {
    static SCOPE: Scope;
}

/// The name of the point of a statement that is described by some words.
pub fn of_statement(what: &str, moment: &str) -> String {
    let words: String = what.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    format!("fleet.{words}.{moment}")
}

/// Passes a point. Dies, stops or waits here if so armed; what else was armed is for the caller to do. Nothing happens
/// outside of [`Failpoints::within`].
pub async fn pass(point: &str) -> Option<Action> {
    let scope = SCOPE.try_with(Clone::clone).ok()?;
    record(&scope, point);
    let (action, taken) = [format!("{point}@{}", scope.name), point.to_owned()]
        .into_iter()
        .find_map(|name| take(&scope.directory, &name))?;
    tracing::warn!(point, action = action.as_str(), "a failpoint is taken");
    let own = rustix::process::getpid();
    match action {
        Action::Kill => {
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
        Action::Stop => {
            let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
            // The call may return before the signal has stopped this thread: the work must not slip past it.
            hold(&taken);
        }
        Action::Pause => {
            let start = Instant::now();
            while taken.exists() && start.elapsed() < WAIT_MAX {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Action::Freeze => hold(&taken),
        Action::Abandon | Action::Fail | Action::FailForGood | Action::Repeat | Action::Cut => return Some(action),
    }
    None
}

/// Holds the whole task where it is until the file is removed.
fn hold(taken: &Path) {
    tokio::task::block_in_place(|| {
        let start = Instant::now();
        while taken.exists() && start.elapsed() < WAIT_MAX {
            std::thread::sleep(LOOK_EVERY);
        }
    });
}

/// The rename decides who takes the action, among any number of processes.
fn take(directory: &Path, name: &str) -> Option<(Action, PathBuf)> {
    let taken = directory.join(format!("{name}{TAKEN}"));
    let is_first = std::fs::rename(directory.join(name), &taken).is_ok();
    let action = Action::parse(&std::fs::read_to_string(&taken).ok()?)?;
    (is_first || action == Action::FailForGood).then_some((action, taken))
}

fn record(scope: &Scope, point: &str) {
    let file = std::fs::OpenOptions::new().append(true).open(scope.directory.join(RECORD));
    if let Ok(mut file) = file {
        let _ = std::io::Write::write_all(&mut file, format!("{} {point}\n", scope.name).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_action_is_read_as_it_is_written() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
        assert_eq!(Action::parse("kill\n"), Some(Action::Kill));
        assert_eq!(Action::parse("nothing"), None);
    }

    #[test]
    fn an_action_is_taken_once_and_what_fails_for_good_until_it_is_let_go() {
        let directory = tempfile::tempdir().unwrap();
        for (name, action) in [("once", Action::Fail), ("for-good", Action::FailForGood)] {
            std::fs::write(directory.path().join(name), action.as_str()).unwrap();
            assert_eq!(take(directory.path(), name).unwrap().0, action);
        }
        assert!(take(directory.path(), "once").is_none());
        let (again, taken) = take(directory.path(), "for-good").unwrap();
        assert_eq!(again, Action::FailForGood);
        std::fs::remove_file(taken).unwrap();
        assert!(take(directory.path(), "for-good").is_none());
    }

    #[test]
    fn statements_name_points_that_can_be_files() {
        assert_eq!(of_statement("drop the home's roles", "replied"), "fleet.drop-the-home-s-roles.replied");
    }
}
