//! Derives which members run and which links carry traffic from the steps so far.
//!
//! It follows the steps, not the members: it validates a scenario before anything starts, and the timings are
//! interpreted with it afterwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::link::Link;
use crate::step::{Action, Step};

/// State of a member's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// The process runs.
    Running,
    /// The process is stopped by SIGSTOP.
    Paused,
    /// The process was killed or stopped.
    Down,
}

/// Running members and the state of the links.
#[derive(Clone, Debug)]
pub struct Topology {
    members: BTreeMap<String, ProcessState>,
    cut: BTreeSet<Link>,
    delayed: BTreeSet<Link>,
}

impl Topology {
    /// Creates a topology in which all members run and no link is cut or delayed.
    pub fn new(roster: &[String]) -> Self {
        let members = roster.iter().map(|name| (name.clone(), ProcessState::Running)).collect();
        Self { members, cut: BTreeSet::new(), delayed: BTreeSet::new() }
    }

    /// Members in the process state `life`.
    pub fn with(&self, life: ProcessState) -> Vec<String> {
        self.members.iter().filter(|(_, found)| **found == life).map(|(name, _)| name.clone()).collect()
    }

    /// Running members.
    pub fn running(&self) -> Vec<String> {
        self.with(ProcessState::Running)
    }

    /// Members that `action` applies to, with defaults resolved.
    pub fn members_of(&self, action: &Action) -> Vec<String> {
        match action {
            Action::Stop { members, .. } | Action::Clock { members, .. } if members.is_empty() => {
                self.running()
            }
            Action::Resume { members } if members.is_empty() => self.with(ProcessState::Paused),
            Action::Restart { members } | Action::Audit { members } | Action::Upgrade { members }
                if members.is_empty() =>
            {
                self.with(ProcessState::Down)
            }
            Action::Disk { members, .. } if members.is_empty() => self.running(),
            Action::Pairs { .. } => self.running(),
            other => other.members().to_vec(),
        }
    }

    /// Links that `action` applies to, with defaults resolved.
    pub fn links_of(&self, action: &Action) -> Vec<Link> {
        match (action, action.links()) {
            (Action::Heal { .. }, links) if links.is_empty() => {
                let names = || self.members.keys();
                let pairs = names().flat_map(|a| names().map(move |b| (a, b)));
                pairs.filter(|(a, b)| a != b).map(|(a, b)| Link::new(a, b)).collect()
            }
            (_, links) => links,
        }
    }

    /// Whether every member runs and no link is cut or delayed.
    pub fn is_whole(&self) -> bool {
        self.carries_at_full_speed() && self.running().len() == self.members.len()
    }

    /// Whether no link is cut or delayed.
    pub fn carries_at_full_speed(&self) -> bool {
        self.is_connected() && self.delayed.is_empty()
    }

    /// Whether no link is cut.
    pub fn is_connected(&self) -> bool {
        self.cut.is_empty()
    }

    /// Number of running members that `name` has information about, itself included: those it can exchange messages
    /// with, and those that one of these can. 0 if `name` does not run.
    pub fn healthy_seen_by(&self, name: &str) -> usize {
        let running = self.running();
        if !running.iter().any(|member| member == name) {
            return 0;
        }
        let carries = |one: &str, other: &str| {
            let link = Link::new(one, other);
            one == other || !self.cut.contains(&link) && !self.cut.contains(&link.reversed())
        };
        let is_heard_of =
            |other: &&String| running.iter().any(|third| carries(name, third) && carries(third, other));
        running.iter().filter(is_heard_of).count()
    }

    /// Maximum over all members of [`healthy_seen_by`](Self::healthy_seen_by).
    pub fn healthy_at_best(&self) -> usize {
        self.members.keys().map(|name| self.healthy_seen_by(name)).max().unwrap_or(0)
    }

    /// Process state of `name`; an unknown member counts as down.
    pub fn life(&self, name: &str) -> ProcessState {
        self.members.get(name).copied().unwrap_or(ProcessState::Down)
    }

    /// Members from which `name` is cut, in at least one direction.
    pub fn cut_from(&self, name: &str) -> Vec<String> {
        across(&self.cut, name)
    }

    /// Members with whom `name` has a delayed link, in at least one direction.
    pub fn slow_with(&self, name: &str) -> Vec<String> {
        across(&self.delayed, name)
    }

    /// Applies an action.
    pub fn apply(&mut self, action: &Action) {
        let life = match action {
            Action::Kill { .. } | Action::Stop { .. } => Some(ProcessState::Down),
            Action::Pause { .. } => Some(ProcessState::Paused),
            Action::Resume { .. } | Action::Restart { .. } => Some(ProcessState::Running),
            _ => None,
        };
        if let Some(life) = life {
            for name in self.members_of(action) {
                self.members.insert(name, life);
            }
        }
        let links = self.links_of(action);
        match action {
            Action::Cut { .. } => self.cut.extend(links),
            Action::Heal { .. } => {
                for link in &links {
                    self.cut.remove(link);
                    self.delayed.remove(link);
                }
            }
            Action::Delay { by, .. } if by.is_zero() => self.delayed.retain(|link| !links.contains(link)),
            Action::Delay { .. } => self.delayed.extend(links),
            _ => {}
        }
    }

    /// Whether `step` is valid now: its members exist and are in a state that the step can apply to. An error is a
    /// sentence with the key, the value and what was expected.
    pub fn check(&self, step: &Step) -> Result<(), String> {
        for name in step.members() {
            if !self.members.contains_key(name) {
                return Err(format!("names {name:?}; expected one of {}", self.names()));
            }
        }
        let needed: &[ProcessState] = match step {
            Step::Act(Action::Kill { .. }) => &[ProcessState::Running, ProcessState::Paused],
            Step::Act(Action::Resume { .. }) => &[ProcessState::Paused],
            Step::Act(Action::Restart { .. } | Action::Audit { .. } | Action::Upgrade { .. }) => {
                &[ProcessState::Down]
            }
            Step::Act(_) | Step::Check(_) => &[ProcessState::Running],
        };
        let concerned = match step {
            Step::Act(action) => self.members_of(action),
            Step::Check(check) if check.members().is_empty() => self.running(),
            Step::Check(check) => check.members().to_vec(),
        };
        for name in &concerned {
            let life = self.members[name];
            if !needed.contains(&life) {
                let expected: Vec<_> = needed.iter().map(|life| life.as_str()).collect();
                let found = life.as_str();
                return Err(format!(
                    "names {name:?}, which is {found} then; expected {}",
                    expected.join(" or ")
                ));
            }
        }
        match step {
            Step::Act(action @ (Action::Cut { .. } | Action::Heal { .. } | Action::Delay { .. })) => {
                self.check_links(action)
            }
            Step::Act(_) if concerned.is_empty() => {
                Err("concerns no member then; expected at least one".to_owned())
            }
            Step::Check(_) if concerned.is_empty() => {
                Err("is asked of all running members, but none runs then".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_links(&self, action: &Action) -> Result<(), String> {
        let links = self.links_of(action);
        if links.is_empty() {
            return Err("names no link; expected `links` or `between`".to_owned());
        }
        for link in links {
            for name in [&link.from, &link.to] {
                if !self.members.contains_key(name) {
                    return Err(format!("names {name:?} in a link; expected one of {}", self.names()));
                }
            }
            if link.from == link.to {
                return Err(format!("has {:?} in both groups; expected each member in one", link.from));
            }
        }
        Ok(())
    }

    fn names(&self) -> String {
        self.members.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// The other ends of the links in `links` that have `name` at one end.
fn across(links: &BTreeSet<Link>, name: &str) -> Vec<String> {
    let others = links.iter().filter_map(|link| match (link.from == name, link.to == name) {
        (true, _) => Some(link.to.clone()),
        (_, true) => Some(link.from.clone()),
        _ => None,
    });
    others.collect::<BTreeSet<_>>().into_iter().collect()
}

impl ProcessState {
    /// Name of the state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Down => "down",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Vec<String> {
        (1..=4).map(|n| format!("node-{n}")).collect()
    }

    fn step(text: &str) -> Step {
        Step::from_table(text.parse().expect("the test's TOML is TOML")).expect("the test's step is a step")
    }

    fn after(steps: &[&str]) -> Topology {
        let mut topology = Topology::new(&four());
        for text in steps {
            let Step::Act(action) = step(text) else { panic!("{text} is no action") };
            topology.apply(&action);
        }
        topology
    }

    #[test]
    fn healthy_members_are_those_that_run_and_are_heard_of_directly_or_through_a_third() {
        let table: [(&[&str], [usize; 4]); 9] = [
            (&[], [4, 4, 4, 4]),
            (&["do='kill'\nmembers=['node-4']"], [3, 3, 3, 0]),
            (&["do='kill'\nmembers=['node-4']", "do='pause'\nmembers=['node-3']"], [2, 2, 0, 0]),
            (&["do='cut'\nbetween=[['node-1','node-2'],['node-3','node-4']]"], [2, 2, 2, 2]),
            (&["do='cut'\nlinks=['node-1>node-2']"], [4, 4, 4, 4]),
            (&["do='cut'\nbetween=[['node-1'],['node-2']]", "do='kill'\nmembers=['node-4']"], [3, 3, 3, 0]),
            (
                &[
                    "do='cut'\nbetween=[['node-1'],['node-3', 'node-4']]",
                    "do='cut'\nbetween=[['node-2'],['node-4']]",
                ],
                [3, 4, 4, 3],
            ),
            (&["do='cut'\nbetween=[['node-1', 'node-2', 'node-3'],['node-4']]"], [3, 3, 3, 1]),
            (&["do='cut'\nlinks=['node-1>node-2']", "do='heal'"], [4, 4, 4, 4]),
        ];
        for (steps, expected) in table {
            let topology = after(steps);
            let seen: Vec<_> = four().iter().map(|name| topology.healthy_seen_by(name)).collect();
            assert_eq!(seen, expected, "{steps:?}");
        }
    }

    #[test]
    fn a_delayed_link_leaves_the_federation_connected_but_not_whole() {
        let delay = "do='delay'\nlinks=['node-1>node-2']\nby='1s'";
        let topology = after(&[delay]);
        assert!(topology.is_connected() && !topology.is_whole());
        assert!(after(&[delay, "do='delay'\nlinks=['node-1>node-2']\nby='0s'"]).is_whole());
    }

    #[test]
    fn steps_that_make_no_sense_are_refused_in_a_sentence() {
        let kill = "do='kill'\nmembers=['node-4']";
        let table: [(&[&str], &str, &str); 6] = [
            (&[], "do='kill'\nmembers=['node-9']", "\"node-9\"; expected one of node-1"),
            (&[kill], kill, "which is down then; expected running or paused"),
            (&[], "do='resume'\nmembers=['node-1']", "which is running then; expected paused"),
            (&[], "do='restart'", "concerns no member"),
            (&[kill], "do='wait_blocks'\ncount=1\nwithin='1s'\nmembers=['node-4']", "which is down then"),
            (&[], "do='cut'", "names no link"),
        ];
        for (before, text, expected) in table {
            let error = after(before).check(&step(text)).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
