//! One case: what is done to which operation where, and how it must end.

use tenantry_control::KindSteps;
use tenantry_fleet::failpoints::Action;

/// How an operation ends that was broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As if nothing had happened.
    Done,
    /// Walked back, with nothing left.
    WalkedBack,
    /// Set aside for a person, and done once that person says so.
    Parked,
}

/// Failpoints for one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    /// Points and what happens there.
    pub(crate) armed: Vec<(String, Action)>,
    /// How it must end.
    pub(crate) ending: Ending,
}

impl Case {
    fn new(point: String, action: Action, ending: Ending) -> Self {
        Self { armed: vec![(point, action)], ending }
    }

    fn then(mut self, point: String, action: Action) -> Self {
        self.armed.push((point, action));
        self
    }

    /// How many cases it counts as: each lost answer is one of its own.
    pub(crate) fn count(&self) -> usize {
        let lost = self.armed.iter().filter(|(_, action)| *action == Action::Cut).count();
        lost.max(usize::from(!self.armed.is_empty()))
    }

    /// Whether the case counts even if its point was not passed: a step without effect is not committed by itself.
    pub(crate) fn may_be_missed(&self) -> bool {
        self.armed.iter().all(|(point, _)| point.ends_with(".committed"))
    }
}

/// A worker dies, fails, is repeated or sleeps through its lease, before and after each step and its commit; and dies or
/// fails while it walks back.
pub(crate) fn around_each_step(kind: &KindSteps) -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, step) in kind.steps.iter().enumerate() {
        let point = |moment: &str| format!("{}.{step}.{moment}", kind.kind);
        let for_good = if index < kind.before_pivot { Ending::WalkedBack } else { Ending::Parked };
        for moment in ["before", "performed"] {
            for action in [Action::Abandon, Action::Fail, Action::Freeze] {
                cases.push(Case::new(point(moment), action, Ending::Done));
            }
            cases.push(Case::new(point(moment), Action::FailForGood, for_good));
        }
        cases.push(Case::new(point("performed"), Action::Repeat, Ending::Done));
        cases.push(Case::new(point("committed"), Action::Abandon, Ending::Done));
        if for_good == Ending::WalkedBack {
            let undo = |moment: &str| format!("{}.undo.{moment}", kind.kind);
            for moment in ["before", "performed"] {
                for action in [Action::Abandon, Action::Fail, Action::Freeze] {
                    let broken = Case::new(point("performed"), Action::FailForGood, for_good);
                    cases.push(broken.then(undo(moment), action));
                }
            }
        }
    }
    cases
}

/// One action at each of some moments of each step, with which the operation gets done.
pub(crate) fn at_each_step(kind: &KindSteps, moments: &[&str], action: Action) -> Vec<Case> {
    let points = kind.steps.iter().flat_map(|step| moments.iter().map(move |moment| (step, moment)));
    points.map(|(step, moment)| Case::new(format!("{}.{step}.{moment}", kind.kind), action, Ending::Done)).collect()
}

/// The answer to each of some statements is lost.
pub(crate) fn lost_replies<'p>(points: impl IntoIterator<Item = &'p String>) -> Vec<Case> {
    let statements = points.into_iter().filter(|point| point.starts_with("fleet."));
    statements.map(|point| Case::new(point.clone(), Action::Cut, Ending::Done)).collect()
}
