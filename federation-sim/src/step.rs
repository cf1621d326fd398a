//! One step of a scenario: an action on the federation, or a check of it.
//!
//! The federation carries out an [`Action`]; a [`Check`] is evaluated against the observations. Both are plain data,
//! read from TOML tables with a `do` key, and display themselves as a sentence.

use std::fmt;
use std::time::Duration;

use alys_node::actors::consensus::byzantine::Misbehaviour;
use alys_node::ops::view::{FaultKind, GateDecision};
use serde::Deserialize;

use crate::link::Link;

/// One step of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Changes the federation.
    Act(Action),
    /// Checks the federation.
    Check(Check),
}

/// An action on the federation. Where `members` may be omitted, it means every member the action can apply to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Sends SIGKILL to all members within 50 ms.
    Kill {
        /// Members to kill.
        members: Vec<String>,
        /// Kill at a seeded random time after the next block instead of at once.
        #[serde(default)]
        mid_slot: bool,
    },
    /// Sends SIGTERM, and a second SIGTERM a second later to a member that refuses while others stay. Every member must
    /// end with exit code 0.
    Stop {
        /// Members to stop; all running members if empty.
        #[serde(default)]
        members: Vec<String>,
        /// Time limit for the members to end.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Sends SIGTERM, which every member must refuse, with the reason, because the federation could not work without
    /// it.
    Refuse {
        /// Members that must refuse.
        members: Vec<String>,
        /// Time limit for the refusal.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Sends SIGSTOP: the process and its connections remain, but it does not run.
    Pause {
        /// Members to pause.
        members: Vec<String>,
    },
    /// Sends SIGCONT.
    Resume {
        /// Members to resume; all paused members if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Starts members that were killed or stopped, with their existing data.
    Restart {
        /// Members to restart; all that are down if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Checks with `alys-node audit` that the chain, the log and the signatures of members that are down agree, and
    /// with `alys-node decisions replay` that their gate decisions follow from their inputs.
    Audit {
        /// Members to audit; all that are down if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Holds all bytes on links; connections stay open.
    Cut {
        /// Single directions to cut.
        #[serde(default)]
        links: Vec<Link>,
        /// Two groups of members; every link between them is cut, both ways.
        between: Option<[Vec<String>; 2]>,
    },
    /// Delivers held bytes and removes delays. Applies to all links if none is named.
    Heal {
        /// Single directions to heal.
        #[serde(default)]
        links: Vec<Link>,
        /// Two groups of members; every link between them is healed, both ways.
        between: Option<[Vec<String>; 2]>,
    },
    /// Adds a fixed latency to links.
    Delay {
        /// Single directions to delay.
        #[serde(default)]
        links: Vec<Link>,
        /// Two groups of members; every link between them is delayed, both ways.
        between: Option<[Vec<String>; 2]>,
        /// Added latency; 0 removes it.
        #[serde(with = "humantime_serde")]
        by: Duration,
    },
    /// Injects a fault into an actor of a member and checks how its supervision reacts.
    Fault {
        /// Member the actor belongs to.
        member: String,
        /// Name of the actor in the supervision tree.
        actor: String,
        /// Kind of fault.
        fault: FaultKind,
        /// Inject at a seeded random time after the next block instead of at once.
        #[serde(default)]
        mid_slot: bool,
        /// Required result.
        until: FaultEnd,
        /// Time limit for the result.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Orders a member to break the consensus protocol, or to follow it again.
    Misbehave {
        /// Member to give the order to.
        member: String,
        /// Way to break the protocol; `None` follows it again.
        how: Option<Misbehaviour>,
    },
    /// Adds a delay to every sync of members' disks, including one in progress.
    Disk {
        /// Members with slow disks; all running members if empty.
        #[serde(default)]
        members: Vec<String>,
        /// Added time per sync; hours simulate a hung disk, 0 ends the delay.
        #[serde(with = "humantime_serde")]
        sync_delay: Duration,
    },
    /// Removes `link.version` from the configuration of members that are down, so that they use the newest version.
    Upgrade {
        /// Members to upgrade; all that are down if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Opens unauthenticated connections to a member's link. The member must close them in time, its memory may grow by
    /// a bounded amount only, and it must keep making blocks.
    Attack {
        /// Member to attack.
        member: String,
        /// Number of connections.
        connections: usize,
    },
    /// Starts a copy of a running member's directory next to it. The copy must halt and give the reason; it is then
    /// killed.
    Twin {
        /// Member to copy.
        member: String,
        /// Time limit for the copy to halt.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Checks that every pair of running members has exactly one connection, and that no other connection exists.
    Pairs {
        /// Time limit for the connections to become so.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Sets members' wall clocks to an offset from the machine's, until the members end.
    Clock {
        /// Members whose clock is set; all running members if empty.
        #[serde(default)]
        members: Vec<String>,
        /// Offset into the future.
        #[serde(default, with = "humantime_serde")]
        ahead: Duration,
        /// Offset into the past.
        #[serde(default, with = "humantime_serde")]
        behind: Duration,
    },
    /// Posts transactions with random payloads.
    Submit {
        /// Member that receives the transactions.
        member: String,
        /// Number of transactions.
        count: usize,
    },
}

/// Required result of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultEnd {
    /// The actor was restarted once and runs.
    Running,
    /// The fault is injected again each time the actor comes back, until it stays down: its member halts consensus, and
    /// reports why at the gate and among the patterns of its supervision.
    Halted,
}

impl fmt::Display for FaultEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "until it runs again",
            Self::Halted => "again and again until the member halts",
        })
    }
}

/// A check of the federation. An empty `members` means every running member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// Waits for new blocks on each member.
    WaitBlocks {
        /// Number of new blocks.
        count: u64,
        /// Members that must have the blocks.
        #[serde(default)]
        members: Vec<String>,
        /// Time limit.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
    /// Waits for a gate decision on each member.
    WaitGate {
        /// Expected decision.
        decision: GateDecision,
        /// Members whose gate must decide so.
        #[serde(default)]
        members: Vec<String>,
        /// Time limit.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
    /// Waits until members are ready: gate open, caught up, healthy.
    WaitReady {
        /// Members that must be ready.
        #[serde(default)]
        members: Vec<String>,
        /// Time limit.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
    /// Lets time pass.
    Wait {
        /// Time to wait.
        #[serde(with = "humantime_serde")]
        duration: Duration,
    },
    /// Checks that facts hold: at once, within `within`, or throughout `no_block_for` or `no_halt_for`.
    Expect(Expectation),
}

/// Facts that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expectation {
    /// Members the facts are about.
    pub members: Vec<String>,
    /// Time during which no new block may appear; every other fact must hold throughout.
    #[serde(with = "humantime_serde")]
    pub no_block_for: Option<Duration>,
    /// Time during which no gate may close; every other fact must hold throughout. Excludes `no_block_for`.
    #[serde(with = "humantime_serde")]
    pub no_halt_for: Option<Duration>,
    /// Decision of the gate.
    pub gate: Option<GateDecision>,
    /// Minimum number of healthy members the gate counts.
    pub healthy: Option<usize>,
    /// Whether all members must have the same height and the same block at it.
    pub heights_equal: bool,
    /// Whether every transaction submitted so far must be in a block.
    pub transactions_included: bool,
    /// Minimum height.
    pub min_height: Option<u64>,
    /// Exact number of other members whose actors are discovered.
    pub finds: Option<usize>,
    /// Text that the member's own health report must contain.
    pub says: Option<String>,
    /// Whether every link to every other member must be up.
    pub links_up: bool,
    /// Protocol versions of the links that are up, in ascending order.
    pub link_versions: Option<Vec<u32>>,
    /// Members against whom there is evidence of equivocation; there must be none against others.
    pub evidence: Option<Vec<String>>,
    /// Maximum time between consecutive blocks, by their timestamps, from the last block before the latest fault on.
    #[serde(with = "humantime_serde")]
    pub blocks_apart_max: Option<Duration>,
    /// Time within which the facts must become true. Excludes `no_block_for` and `no_halt_for`.
    #[serde(with = "humantime_serde")]
    pub within: Option<Duration>,
}

fn fifteen_seconds() -> Duration {
    Duration::from_secs(15)
}

/// Names of [`Action`]s, as written in a scenario.
const ACTIONS: &[&str] = &[
    "kill",
    "stop",
    "refuse",
    "pause",
    "resume",
    "restart",
    "audit",
    "cut",
    "heal",
    "delay",
    "fault",
    "misbehave",
    "disk",
    "upgrade",
    "attack",
    "twin",
    "pairs",
    "clock",
    "submit",
];
/// Names of [`Check`]s, as written in a scenario.
const CHECKS: [&str; 5] = ["wait_blocks", "wait_gate", "wait_ready", "wait", "expect"];

impl Step {
    /// Reads a step from a TOML table; its `do` key selects the kind. An error names the key, its value and what was
    /// expected.
    pub fn from_table(table: toml::Table) -> Result<Self, String> {
        let kind = match table.get("do") {
            Some(toml::Value::String(kind)) => kind.clone(),
            other => {
                let found = other.map_or("missing".to_owned(), ToString::to_string);
                return Err(format!("`do` is {found}; expected one of {}", known_kinds()));
            }
        };
        let value = toml::Value::Table(table);
        let read = if ACTIONS.contains(&kind.as_str()) {
            value.try_into().map(Self::Act)
        } else if CHECKS.contains(&kind.as_str()) {
            value.try_into().map(Self::Check)
        } else {
            return Err(format!("`do` is {kind:?}; expected one of {}", known_kinds()));
        };
        read.map_err(|error| format!("(`do` = {kind:?}) {}", error.message()))
    }

    /// Kind of the step, as written in scenarios.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Act(action) => action.kind(),
            Self::Check(check) => check.kind(),
        }
    }

    /// Members the step names; empty if it relies on a default.
    pub fn members(&self) -> &[String] {
        match self {
            Self::Act(action) => action.members(),
            Self::Check(check) => check.members(),
        }
    }
}

impl Action {
    /// Kind of the action, as written in scenarios.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Stop { .. } => "stop",
            Self::Refuse { .. } => "refuse",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Restart { .. } => "restart",
            Self::Audit { .. } => "audit",
            Self::Cut { .. } => "cut",
            Self::Heal { .. } => "heal",
            Self::Delay { .. } => "delay",
            Self::Fault { .. } => "fault",
            Self::Misbehave { .. } => "misbehave",
            Self::Disk { .. } => "disk",
            Self::Upgrade { .. } => "upgrade",
            Self::Attack { .. } => "attack",
            Self::Pairs { .. } => "pairs",
            Self::Twin { .. } => "twin",
            Self::Clock { .. } => "clock",
            Self::Submit { .. } => "submit",
        }
    }

    /// Members the action names; empty if it relies on a default, or names links.
    pub fn members(&self) -> &[String] {
        match self {
            Self::Kill { members, .. }
            | Self::Stop { members, .. }
            | Self::Refuse { members, .. }
            | Self::Pause { members }
            | Self::Resume { members }
            | Self::Restart { members }
            | Self::Disk { members, .. }
            | Self::Upgrade { members }
            | Self::Clock { members, .. }
            | Self::Audit { members } => members,
            Self::Submit { member, .. }
            | Self::Fault { member, .. }
            | Self::Misbehave { member, .. }
            | Self::Attack { member, .. }
            | Self::Twin { member, .. } => std::slice::from_ref(member),
            Self::Cut { .. } | Self::Heal { .. } | Self::Delay { .. } | Self::Pairs { .. } => &[],
        }
    }

    /// Links the action names, with groups expanded; empty if it applies to all links, or names members.
    pub fn links(&self) -> Vec<Link> {
        match self {
            Self::Cut { links, between }
            | Self::Heal { links, between }
            | Self::Delay { links, between, .. } => {
                links.iter().cloned().chain(between.iter().flat_map(Link::between)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the action leaves the state of members and links unchanged.
    pub fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::Submit { .. }
                | Self::Misbehave { .. }
                | Self::Refuse { .. }
                | Self::Attack { .. }
                | Self::Twin { .. }
                | Self::Pairs { .. }
                | Self::Disk { .. }
                | Self::Upgrade { .. }
        )
    }
}

impl Check {
    /// Kind of the check, as written in scenarios.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::WaitBlocks { .. } => "wait_blocks",
            Self::WaitGate { .. } => "wait_gate",
            Self::WaitReady { .. } => "wait_ready",
            Self::Wait { .. } => "wait",
            Self::Expect(_) => "expect",
        }
    }

    /// Members the check names; empty for all running members.
    pub fn members(&self) -> &[String] {
        match self {
            Self::WaitBlocks { members, .. }
            | Self::WaitGate { members, .. }
            | Self::WaitReady { members, .. } => members,
            Self::Expect(expectation) => &expectation.members,
            Self::Wait { .. } => &[],
        }
    }
}

fn known_kinds() -> String {
    ACTIONS.iter().chain(&CHECKS).copied().collect::<Vec<_>>().join(", ")
}

/// Names joined for a sentence, or `nobody` if there are none.
fn who<'a>(names: &[String], nobody: &'a str) -> std::borrow::Cow<'a, str> {
    if names.is_empty() { nobody.into() } else { names.join(", ").into() }
}

fn span(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

/// Displays the links of a step in a sentence.
struct Links<'a>(&'a [Link], Option<&'a [Vec<String>; 2]>);

impl fmt::Display for Links<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = self.0.iter().map(ToString::to_string);
        let groups = self.1.iter().map(|[a, b]| format!("{} | {}", a.join(", "), b.join(", ")));
        let parts: Vec<_> = single.chain(groups).collect();
        if parts.is_empty() { f.write_str("all links") } else { f.write_str(&parts.join(", ")) }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Act(action) => action.fmt(f),
            Self::Check(check) => check.fmt(f),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { members, mid_slot } => {
                write!(f, "kill {}", members.join(", "))?;
                if *mid_slot { f.write_str(" in mid-slot") } else { Ok(()) }
            }
            Self::Stop { members, within } => {
                write!(f, "stop {} within {}", who(members, "all running members"), span(*within))
            }
            Self::Refuse { members, within } => {
                write!(f, "stop {}, which must refuse within {}", members.join(", "), span(*within))
            }
            Self::Pause { members } => write!(f, "pause {}", members.join(", ")),
            Self::Resume { members } => write!(f, "resume {}", who(members, "all paused members")),
            Self::Restart { members } => write!(f, "restart {}", who(members, "all members that are down")),
            Self::Audit { members } => write!(f, "audit {}", who(members, "all members that are down")),
            Self::Cut { links, between } => write!(f, "cut {}", Links(links, between.as_ref())),
            Self::Heal { links, between } => write!(f, "heal {}", Links(links, between.as_ref())),
            Self::Delay { links, between, by } => {
                write!(f, "delay {} by {}", Links(links, between.as_ref()), span(*by))
            }
            Self::Fault { member, actor, fault, mid_slot, until, within } => {
                write!(f, "{fault} {actor} of {member}")?;
                if *mid_slot {
                    f.write_str(" in mid-slot")?;
                }
                write!(f, ", {until}, within {}", span(*within))
            }
            Self::Misbehave { member, how: Some(how) } => write!(f, "let {member} misbehave: {how}"),
            Self::Misbehave { member, how: None } => write!(f, "let {member} be honest again"),
            Self::Disk { members, sync_delay } => {
                write!(
                    f,
                    "syncs of {} take {} longer",
                    who(members, "all running members"),
                    span(*sync_delay)
                )
            }
            Self::Upgrade { members } => write!(f, "upgrade {}", who(members, "all members that are down")),
            Self::Attack { member, connections } => {
                write!(f, "attack {member} with {connections} connections")
            }
            Self::Twin { member, within } => {
                write!(f, "start a copy of {member} beside it, which halts within {}", span(*within))
            }
            Self::Pairs { within } => {
                write!(f, "count one connection for each pair of running members within {}", span(*within))
            }
            Self::Clock { members, ahead, behind } => {
                let whose = who(members, "all running members");
                write!(f, "set the clocks of {whose} ")?;
                match (ahead.is_zero(), behind.is_zero()) {
                    (true, true) => f.write_str("right"),
                    (_, true) => write!(f, "{} ahead", span(*ahead)),
                    _ => write!(f, "{} behind", span(*behind)),
                }
            }
            Self::Submit { member, count } => write!(f, "submit {count} transactions to {member}"),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = "all running members";
        match self {
            Self::WaitBlocks { count, members, within } => {
                let blocks = if *count == 1 { "block" } else { "blocks" };
                write!(f, "wait for {count} more {blocks} on {} within {}", who(members, all), span(*within))
            }
            Self::WaitGate { decision, members, within } => {
                write!(f, "wait for gate {decision} on {} within {}", who(members, all), span(*within))
            }
            Self::WaitReady { members, within } => {
                write!(f, "wait until {} ready within {}", who(members, all), span(*within))
            }
            Self::Wait { duration } => write!(f, "wait {}", span(*duration)),
            Self::Expect(expectation) => expectation.fmt(f),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = Vec::new();
        if let Some(duration) = self.no_block_for {
            facts.push(format!("no block for {}", span(duration)));
        }
        if let Some(duration) = self.no_halt_for {
            facts.push(format!("no halt for {}", span(duration)));
        }
        if let Some(decision) = self.gate {
            facts.push(format!("gate {decision}"));
        }
        if let Some(healthy) = self.healthy {
            facts.push(format!("{healthy} healthy or more"));
        }
        if self.heights_equal {
            facts.push("equal heights".to_owned());
        }
        if self.transactions_included {
            facts.push("all transactions included".to_owned());
        }
        if let Some(height) = self.min_height {
            facts.push(format!("height {height} or more"));
        }
        if let Some(members) = self.finds {
            facts.push(format!("the actors of {members} other members found"));
        }
        if let Some(text) = &self.says {
            facts.push(format!("{text:?} said of the own health"));
        }
        if self.links_up {
            facts.push("every link up".to_owned());
        }
        if let Some(versions) = &self.link_versions {
            facts.push(format!("links of versions {versions:?}"));
        }
        if let Some(members) = &self.evidence {
            facts.push(format!("evidence against {}", who(members, "nobody")));
        }
        if let Some(most) = self.blocks_apart_max {
            facts.push(format!("blocks at most {} apart across the fault", span(most)));
        }
        write!(f, "expect {} on {}", facts.join(", "), who(&self.members, "all running members"))?;
        self.within.map_or(Ok(()), |within| write!(f, " within {}", span(within)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Result<Step, String> {
        Step::from_table(text.parse().expect("the test's TOML is TOML"))
    }

    #[test]
    fn steps_say_themselves_in_a_sentence() {
        let table = [
            (
                "do='wait_blocks'\ncount=5\nwithin='30s'",
                "wait for 5 more blocks on all running members within 30s",
            ),
            (
                "do='wait_gate'\nmembers=['node-1']\ndecision='closed'\nwithin='3s'",
                "wait for gate closed on node-1 within 3s",
            ),
            ("do='wait_ready'\nwithin='20s'", "wait until all running members ready within 20s"),
            ("do='kill'\nmembers=['node-4']", "kill node-4"),
            ("do='kill'\nmembers=['node-3','node-4']\nmid_slot=true", "kill node-3, node-4 in mid-slot"),
            ("do='stop'", "stop all running members within 15s"),
            ("do='refuse'\nmembers=['node-3']", "stop node-3, which must refuse within 15s"),
            ("do='restart'", "restart all members that are down"),
            ("do='audit'", "audit all members that are down"),
            ("do='cut'\nlinks=['node-1>node-3']", "cut node-1>node-3"),
            (
                "do='cut'\nbetween=[['node-1','node-2'],['node-3','node-4']]",
                "cut node-1, node-2 | node-3, node-4",
            ),
            ("do='heal'", "heal all links"),
            ("do='delay'\nlinks=['node-1>node-3']\nby='100ms'", "delay node-1>node-3 by 100ms"),
            ("do='disk'\nsync_delay='250ms'", "syncs of all running members take 250ms longer"),
            ("do='upgrade'", "upgrade all members that are down"),
            ("do='attack'\nmember='node-1'\nconnections=9", "attack node-1 with 9 connections"),
            ("do='pairs'", "count one connection for each pair of running members within 15s"),
            (
                "do='expect'\nlinks_up=true\nlink_versions=[1, 2, 2]\nwithin='5s'",
                "expect every link up, links of versions [1, 2, 2] on all running members within 5s",
            ),
            ("do='submit'\nmember='node-1'\ncount=3", "submit 3 transactions to node-1"),
            (
                "do='expect'\nno_block_for='10s'\ngate='closed'",
                "expect no block for 10s, gate closed on all running members",
            ),
            ("do='wait'\nduration='1s'", "wait 1s"),
            (
                "do='fault'\nmember='node-2'\nactor='chain'\nfault='panic'\nuntil='running'",
                "panic chain of node-2, until it runs again, within 15s",
            ),
        ];
        for (text, sentence) in table {
            assert_eq!(step(text).map(|step| step.to_string()).as_deref(), Ok(sentence), "{text}");
        }
    }

    #[test]
    fn an_unknown_step_is_refused_with_those_that_exist() {
        let error = step("do='explode'").expect_err("no such step");
        assert!(error.contains("\"explode\"") && error.contains("wait_blocks"), "{error}");
    }

    #[test]
    fn a_step_without_a_kind_is_refused() {
        let error = step("count=5").expect_err("no kind");
        assert!(error.contains("`do` is missing"), "{error}");
    }

    #[test]
    fn unknown_and_missing_keys_of_a_step_are_refused_by_name() {
        let unknown = step("do='kill'\nmembers=['node-4']\nforce=true").expect_err("unknown key");
        assert!(unknown.contains("force"), "{unknown}");
        let unknown = step("do='expect'\nno_blocks_for='1s'").expect_err("unknown key");
        assert!(unknown.contains("no_blocks_for") && unknown.contains("no_block_for"), "{unknown}");
        let missing = step("do='wait_blocks'\nwithin='1s'").expect_err("missing key");
        assert!(missing.contains("count"), "{missing}");
    }
}
