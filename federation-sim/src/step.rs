//! One step of a scenario: something done to the federation, or something asked of it.
//!
//! An [`Action`] is carried out by the federation; a [`Check`] is judged over what is observed of it. Both
//! are plain data, read from TOML tables with a `do` key, and say themselves in a sentence.

use std::fmt;
use std::time::Duration;

use alys_node::actors::consensus::byzantine::Misbehaviour;
use alys_node::ops::view::{FaultKind, GateDecision};
use serde::Deserialize;

use crate::link::Link;

/// One step of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something done to the federation.
    Act(Action),
    /// Something asked of it.
    Check(Check),
}

/// What can be done to the federation. Where `members` may be left out, it means every member to which the
/// action can apply.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// SIGKILL, all within 50 ms.
    Kill {
        /// Whom.
        members: Vec<String>,
        /// Strike at a seeded moment after the next block instead of at once.
        #[serde(default)]
        mid_slot: bool,
    },
    /// SIGTERM, and a second later once more to one that refuses where others stay; every one must end with exit code 0.
    Stop {
        /// Whom; all running members if empty.
        #[serde(default)]
        members: Vec<String>,
        /// How long it may take.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// SIGTERM, which every one must refuse, with the reason, because the federation could not work without it.
    Refuse {
        /// Whom.
        members: Vec<String>,
        /// How long it may take.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// SIGSTOP: the process is there, its connections too, but it does nothing.
    Pause {
        /// Whom.
        members: Vec<String>,
    },
    /// SIGCONT.
    Resume {
        /// Whom; all paused members if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Starts members that were killed or stopped, on their data.
    Restart {
        /// Whom; all that are down if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Asks `alys-node audit` whether the chain, the log and the signatures of members that are down agree, and
    /// `alys-node decisions replay` whether their gates' decisions are what their inputs say.
    Audit {
        /// Whom; all that are down if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Holds every byte on links; connections stay open.
    Cut {
        /// Single directions.
        #[serde(default)]
        links: Vec<Link>,
        /// Every link between two groups, both ways.
        between: Option<[Vec<String>; 2]>,
    },
    /// Lets held bytes flow again, without delay. All links if none is named.
    Heal {
        /// Single directions.
        #[serde(default)]
        links: Vec<Link>,
        /// Every link between two groups, both ways.
        between: Option<[Vec<String>; 2]>,
    },
    /// Adds a fixed latency to links.
    Delay {
        /// Single directions.
        #[serde(default)]
        links: Vec<Link>,
        /// Every link between two groups, both ways.
        between: Option<[Vec<String>; 2]>,
        /// The latency; 0 removes it.
        #[serde(with = "humantime_serde")]
        by: Duration,
    },
    /// Hurts an actor inside a member, and sees to it that its supervision answers.
    Fault {
        /// Whose actor.
        member: String,
        /// Which, by its name in the supervision tree.
        actor: String,
        /// What happens to it.
        fault: FaultKind,
        /// Strike at a seeded moment after the next block instead of at once.
        #[serde(default)]
        mid_slot: bool,
        /// What must come of it.
        until: FaultEnd,
        /// How long that may take.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Has a member break the consensus protocol, or keep to it again.
    Misbehave {
        /// Whom.
        member: String,
        /// How; honestly again if it is left out.
        how: Option<Misbehaviour>,
    },
    /// Makes every sync of members' disks slower, from now on and for one under way.
    Disk {
        /// Whose; all running members if empty.
        #[serde(default)]
        members: Vec<String>,
        /// How much longer a sync takes; hours are a disk that hangs, 0 ends it.
        #[serde(with = "humantime_serde")]
        sync_delay: Duration,
    },
    /// Takes `link.version` out of the configuration of members that are down, so that they speak the newest.
    Upgrade {
        /// Whom; all that are down if empty.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Has strangers make connections to a member's link, which must close them in time, grow by no more than a bounded
    /// amount of memory, and go on making blocks.
    Attack {
        /// Whom.
        member: String,
        /// How many connections.
        connections: usize,
    },
    /// Starts a copy of a running member's directory beside it, which must halt and say why, and is ended then.
    Twin {
        /// Whose.
        member: String,
        /// How long it may take until it has halted.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Counts the connections between members, of which every pair of running members must have one, and no other.
    Pairs {
        /// How long it may take until it is so.
        #[serde(default = "fifteen_seconds", with = "humantime_serde")]
        within: Duration,
    },
    /// Sets members' wall clocks apart from the machine's, until they end.
    Clock {
        /// Whose; all running ones if empty.
        #[serde(default)]
        members: Vec<String>,
        /// How far it is ahead.
        #[serde(default, with = "humantime_serde")]
        ahead: Duration,
        /// How far it is behind.
        #[serde(default, with = "humantime_serde")]
        behind: Duration,
    },
    /// Posts transactions with random payloads.
    Submit {
        /// To whom.
        member: String,
        /// How many.
        count: usize,
    },
}

/// What must come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultEnd {
    /// The actor was restarted once and runs.
    Running,
    /// Struck again each time it comes back, the actor stays down: its member halts consensus, and says why at
    /// the gate and among the patterns of its supervision.
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

/// What can be asked of the federation. An empty `members` means every running member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// More blocks than now, on each member.
    WaitBlocks {
        /// How many more.
        count: u64,
        /// On whom.
        #[serde(default)]
        members: Vec<String>,
        /// Until when at the latest.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
    /// The gate decides so, on each member.
    WaitGate {
        /// The decision waited for.
        decision: GateDecision,
        /// On whom.
        #[serde(default)]
        members: Vec<String>,
        /// Until when at the latest.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
    /// Ready: gate open, caught up, healthy.
    WaitReady {
        /// Who.
        #[serde(default)]
        members: Vec<String>,
        /// Until when at the latest.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
    /// Time passes.
    Wait {
        /// How much.
        #[serde(with = "humantime_serde")]
        duration: Duration,
    },
    /// Facts that must hold: at once, within `within`, or all through `no_block_for` or `no_halt_for`.
    Expect(Expectation),
}

/// Facts that must hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expectation {
    /// On whom.
    pub members: Vec<String>,
    /// No new block for so long; every other fact must hold all the while.
    #[serde(with = "humantime_serde")]
    pub no_block_for: Option<Duration>,
    /// No gate closes for so long; every other fact must hold all the while. Not together with
    /// `no_block_for`.
    #[serde(with = "humantime_serde")]
    pub no_halt_for: Option<Duration>,
    /// What the gate decides.
    pub gate: Option<GateDecision>,
    /// The least number of healthy members the gate counts.
    pub healthy: Option<usize>,
    /// Whether all have the same height and the same block there.
    pub heights_equal: bool,
    /// Whether every transaction submitted so far is in a block.
    pub transactions_included: bool,
    /// The least height.
    pub min_height: Option<u64>,
    /// How many other members' actors are found, neither more nor fewer.
    pub finds: Option<usize>,
    /// What a member must say of its own health, in part.
    pub says: Option<String>,
    /// Whether every link to every other member is up.
    pub links_up: bool,
    /// The versions spoken on the links that are up, in ascending order.
    pub link_versions: Option<Vec<u32>>,
    /// Against whom there is evidence of equivocation, and against nobody else.
    pub evidence: Option<Vec<String>>,
    /// The longest time between two blocks in a row, by their timestamps: from the last block before the latest
    /// fault on.
    #[serde(with = "humantime_serde")]
    pub blocks_apart_max: Option<Duration>,
    /// How long the facts may take to become true. Not together with `no_block_for` or `no_halt_for`.
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
    /// Reads a step from a TOML table, choosing the kind by its `do`. An error names the key, its value and
    /// what was expected.
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

    /// What kind of step it is, as scenarios write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Act(action) => action.kind(),
            Self::Check(check) => check.kind(),
        }
    }

    /// The members a step names; empty where it means a default.
    pub fn members(&self) -> &[String] {
        match self {
            Self::Act(action) => action.members(),
            Self::Check(check) => check.members(),
        }
    }
}

impl Action {
    /// What kind of action it is, as scenarios write it.
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

    /// The members an action names; empty where it means a default, or links.
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

    /// The links an action names, groups spelt out; empty where it means all, or members.
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

    /// Whether the action leaves members and links as they are.
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
    /// What kind of check it is, as scenarios write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::WaitBlocks { .. } => "wait_blocks",
            Self::WaitGate { .. } => "wait_gate",
            Self::WaitReady { .. } => "wait_ready",
            Self::Wait { .. } => "wait",
            Self::Expect(_) => "expect",
        }
    }

    /// The members a check names; empty where it means every running one.
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

/// Names in a sentence, or what no name stands for.
fn who<'a>(names: &[String], nobody: &'a str) -> std::borrow::Cow<'a, str> {
    if names.is_empty() { nobody.into() } else { names.join(", ").into() }
}

fn span(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

/// The links of a step in a sentence.
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
