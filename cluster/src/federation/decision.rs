//! Computes the gate's decision as a pure function of its inputs.
//!
//! [`decide`] is the only place where the gate is opened or closed. It depends only on its [`GateInputs`], and the same
//! inputs give the same [`GateOutcome`], byte for byte: anyone with a member's log can recompute every decision on
//! another machine at any time. It reads no clock and compares no floats; the influence of time is contained in the
//! members' states and in the gates' counts of stable rounds.
//!
//! The rejected alternative is a log of verdicts only: it would record decisions without evidence for their reasons.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::gate::{Decision, Gate};
use crate::id::{ActorName, NodeId};
use crate::ping::HealthStatus;

/// Classes of operations, by their impact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationClass {
    /// Propose a block.
    Propose,
    /// Vote on a block.
    Vote,
    /// Sign a transfer of funds across the bridge.
    SignForBridge,
    /// Change the membership.
    ChangeMembership,
}

impl OperationClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Propose, Self::Vote, Self::SignForBridge, Self::ChangeMembership];

    /// Name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Propose => "propose",
            Self::Vote => "vote",
            Self::SignForBridge => "sign_for_bridge",
            Self::ChangeMembership => "change_membership",
        }
    }
}

impl fmt::Display for OperationClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State of a member as seen by this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// This member itself.
    Own,
    /// No heartbeat was ever received in this incarnation.
    Unknown,
    /// The member answers heartbeats.
    Up,
    /// The member does not answer this one, but attests its health through a third.
    Attested,
    /// Silent at the same time as all others, so that this member suspects itself first.
    Suspected,
    /// The member stopped answering, and nobody forwards its attestations.
    Down,
    /// The member stopped answering after it had announced that it leaves.
    Left,
}

impl MemberState {
    /// Whether there is recent evidence that the member is alive.
    pub fn is_known(self) -> bool {
        matches!(self, Self::Own | Self::Up | Self::Attested)
    }

    /// Name for display; `self` for this member.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Attested => "attested",
            Self::Suspected => "suspected",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

/// Facts about one member that a decision is based on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFacts {
    /// Name of the member.
    pub name: NodeId,
    /// State of the member.
    pub state: MemberState,
    /// Last reported status of its critical actors.
    pub status: HealthStatus,
    /// Time since its last answer to this member, in milliseconds, if there was one.
    pub silent_ms: Option<u64>,
    /// Phi in thousandths: 8,000 is phi 8.
    pub phi_thousandths: u64,
    /// Why it does not count, or what is wrong although it counts; empty if nothing is.
    pub reason: String,
}

impl MemberFacts {
    /// Whether the member counts: it is known to be alive, and reports that it works.
    pub fn is_healthy(&self) -> bool {
        self.state.is_known() && self.status.is_serving()
    }
}

/// What caused this evaluation of the gate, and how far its counts can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evaluation {
    /// A whole interval has passed: enough healthy members count as a stable round.
    Round,
    /// Between two rounds: may close the gate, never open it.
    #[serde(rename = "glimpse")]
    BetweenRounds,
    /// This member was paused, so its counts are not trusted.
    #[serde(rename = "distrust")]
    Untrusted,
    /// Checks the last verdict against its lease, without new counts. May close the gate, never open it.
    Lease {
        /// Duration of the lease, in milliseconds.
        granted_ms: u64,
        /// Age of the verdict, in milliseconds.
        age_ms: u64,
    },
}

impl Evaluation {
    /// Whether the lease of the verdict has expired.
    pub fn is_too_late(self) -> bool {
        matches!(self, Self::Lease { granted_ms, age_ms } if age_ms >= granted_ms)
    }
}

/// Gate of the federation, and one gate per class of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    /// While this gate is closed, nothing is admitted.
    pub federation: Gate,
    /// Gates by class; none demands less than the federation.
    pub classes: BTreeMap<OperationClass, Gate>,
}

impl Gates {
    /// Creates closed gates. `demand` returns the number of healthy members a class demands; less than `required`
    /// counts as `required`.
    pub fn new(required: usize, stable_rounds: u32, demand: impl Fn(OperationClass) -> usize) -> Self {
        let class = |class| (class, Gate::new(demand(class).max(required), stable_rounds));
        Self {
            federation: Gate::new(required, stable_rounds),
            classes: OperationClass::ALL.map(class).into(),
        }
    }

    fn evaluate(&mut self, evaluation: Evaluation, healthy: usize) {
        for gate in std::iter::once(&mut self.federation).chain(self.classes.values_mut()) {
            match evaluation {
                Evaluation::Round => {
                    gate.round(healthy);
                }
                Evaluation::BetweenRounds | Evaluation::Lease { .. } => {
                    gate.observe(healthy);
                }
                Evaluation::Untrusted => gate.close(),
            }
        }
    }
}

/// All inputs of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateInputs {
    /// State of the gates before the decision.
    pub gates: Gates,
    /// How the counts are to be evaluated.
    #[serde(rename = "look")]
    pub evaluation: Evaluation,
    /// Every member of the roster, in its order; empty before the first evaluation.
    pub members: Vec<MemberFacts>,
    /// Whether this member receives nothing from all its peers and suspects itself.
    pub in_doubt: bool,
    /// Interval between two rounds, in milliseconds.
    pub interval_ms: u64,
    /// Reasons to keep the gate closed whatever the members' health, by the actor that holds it.
    pub holds: BTreeMap<ActorName, String>,
}

impl GateInputs {
    /// Creates the inputs before anything is known.
    pub fn unknown(gates: Gates) -> Self {
        let (members, holds) = (Vec::new(), BTreeMap::new());
        Self { gates, evaluation: Evaluation::Untrusted, members, in_doubt: false, interval_ms: 0, holds }
    }

    /// Number of healthy members, including this one.
    pub fn healthy(&self) -> usize {
        self.members.iter().filter(|member| member.is_healthy()).count()
    }
}

/// Decision for one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassOutcome {
    /// Class of operations.
    pub class: OperationClass,
    /// Number of healthy members it demands.
    pub demand: usize,
    /// Whether the class is admitted.
    pub decision: Decision,
}

/// Result of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateOutcome {
    /// State of the gates after the decision, regardless of holds and of the lease.
    pub gates: Gates,
    /// Decision for the federation.
    pub decision: Decision,
    /// Number of healthy members, including this one.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Decision for each class; none is open while the federation's gate is closed.
    pub classes: Vec<ClassOutcome>,
    /// Reason, as a sentence.
    pub reason: String,
    /// What would change the decision, as a sentence.
    pub would_change: String,
}

/// Computes the decision. Deterministic: the same inputs always give the same outcome.
pub fn decide(inputs: &GateInputs) -> GateOutcome {
    let healthy = inputs.healthy();
    let mut gates = inputs.gates.clone();
    gates.evaluate(inputs.evaluation, healthy);
    let is_held = !inputs.holds.is_empty();
    let is_shut = is_held || inputs.evaluation.is_too_late();
    let decision = if is_shut { Decision::Closed } else { gates.federation.decision() };
    let class = |(class, gate): (&OperationClass, &Gate)| ClassOutcome {
        class: *class,
        demand: gate.required(),
        decision: if decision == Decision::Open { gate.decision() } else { Decision::Closed },
    };
    let classes = gates.classes.iter().map(class).collect();
    let (reason, would_change) = if is_held {
        held(&inputs.holds)
    } else if let Evaluation::Lease { granted_ms, .. } = inputs.evaluation
        && is_shut
    {
        let reason = format!(
            "the last verdict ran out after {granted_ms} ms; the federation's health is not being watched"
        );
        (reason, "a new verdict of the federation actor".to_owned())
    } else if inputs.members.is_empty() {
        let reason = "the health of the federation is not known yet".to_owned();
        (reason, "the first round of heartbeats".to_owned())
    } else {
        explain(inputs, &gates.federation, healthy)
    };
    let required = gates.federation.required();
    GateOutcome { gates, decision, healthy, required, classes, reason, would_change }
}

fn held(holds: &BTreeMap<ActorName, String>) -> (String, String) {
    let reasons: Vec<_> = holds.values().map(String::as_str).collect();
    let names: Vec<_> = holds.keys().map(ActorName::as_str).collect();
    (
        format!("this member is halted by its supervision: {}", reasons.join("; ")),
        format!("a restart of this member, or of {} in it", names.join(" and ")),
    )
}

fn explain(inputs: &GateInputs, gate: &Gate, healthy: usize) -> (String, String) {
    let required = gate.required();
    let missing: Vec<_> = inputs.members.iter().filter(|member| !member.is_healthy()).collect();
    let describe = |member: &&MemberFacts| format!("{} ({})", member.name, member.reason);
    let described = missing.iter().map(describe).collect::<Vec<_>>().join(", ");
    let names = missing.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(" or ");
    let self_suspicion = if inputs.in_doubt { "; it hears nobody and doubts itself first" } else { "" };
    let is_troubled = |member: &&MemberFacts| member.is_healthy() && !member.reason.is_empty();
    let troubled: Vec<_> = inputs.members.iter().filter(is_troubled).collect();
    let (reason, would_change) = match gate.decision() {
        Decision::Open if missing.is_empty() => {
            (format!("all {healthy} members are healthy"), format!("fewer than {required} healthy members"))
        }
        Decision::Open => (
            format!("{healthy} of {required} required members are healthy; without {described}"),
            format!("fewer than {required} healthy members; {} more may be lost", healthy - required),
        ),
        Decision::Closed if healthy < required => (
            format!(
                "halted: {healthy} of {required} required members are healthy; missing {described}{self_suspicion}"
            ),
            format!("{} more healthy members: waiting for {names}", required - healthy),
        ),
        Decision::Closed => (
            format!("halted: {healthy} members are healthy again, but not yet for long enough"),
            format!("{} more stable rounds of {} ms", gate.rounds_missing(), inputs.interval_ms),
        ),
    };
    if troubled.is_empty() {
        return (reason, would_change);
    }
    let troubled = troubled.iter().map(describe).collect::<Vec<_>>().join(", ");
    (format!("{reason}; counted in spite of trouble: {troubled}"), would_change)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Four members, the first `healthy` of which are healthy, in a round that completes what is needed to open.
    pub(in crate::federation) fn inputs(healthy: usize) -> GateInputs {
        let member = |index: usize| MemberFacts {
            name: NodeId::new(&format!("node-{}", index + 1)).expect("a name"),
            state: if index == 0 { MemberState::Own } else { MemberState::Up },
            status: if index < healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy },
            silent_ms: Some(5),
            phi_thousandths: 0,
            reason: if index < healthy { String::new() } else { "broken".to_owned() },
        };
        GateInputs {
            gates: Gates::new(3, 1, |_| 3),
            evaluation: Evaluation::Round,
            members: (0..4).map(member).collect(),
            in_doubt: false,
            interval_ms: 250,
            holds: BTreeMap::new(),
        }
    }

    fn admitted(outcome: &GateOutcome) -> Vec<OperationClass> {
        let open = outcome.classes.iter().filter(|class| class.decision == Decision::Open);
        open.map(|class| class.class).collect()
    }

    #[test]
    fn every_class_is_admitted_with_three_by_default_and_none_with_two() {
        assert_eq!(admitted(&decide(&inputs(3))), OperationClass::ALL);
        assert_eq!(admitted(&decide(&inputs(2))), []);
    }

    #[test]
    fn a_class_that_demands_more_waits_for_it_while_the_others_go_on() {
        let demand = |class| if class == OperationClass::ChangeMembership { 4 } else { 3 };
        let with = |healthy| GateInputs { gates: Gates::new(3, 1, demand), ..inputs(healthy) };
        let three = decide(&with(3));
        assert_eq!((three.decision, admitted(&three)), (Decision::Open, OperationClass::ALL[..3].to_vec()));
        assert_eq!(admitted(&decide(&with(4))), OperationClass::ALL);
    }

    #[test]
    fn no_class_can_demand_less_than_the_federation() {
        let gates = Gates::new(3, 1, |_| 1);
        assert_eq!(admitted(&decide(&GateInputs { gates, ..inputs(2) })), []);
    }

    #[test]
    fn members_that_attest_count_and_suspected_ones_do_not() {
        for (state, healthy) in [
            (MemberState::Own, 3),
            (MemberState::Up, 3),
            (MemberState::Attested, 3),
            (MemberState::Unknown, 2),
            (MemberState::Suspected, 2),
            (MemberState::Down, 2),
            (MemberState::Left, 2),
        ] {
            let mut inputs = inputs(3);
            inputs.members[1].state = state;
            assert_eq!(decide(&inputs).healthy, healthy, "{state:?}");
        }
    }

    #[test]
    fn what_holds_the_gate_closed_leaves_the_counts_alone() {
        let mut held = inputs(4);
        held.holds.insert(ActorName::literal("chain"), "chain is corrupt".to_owned());
        let (held, free) = (decide(&held), decide(&inputs(4)));
        assert_eq!((held.decision, admitted(&held)), (Decision::Closed, vec![]));
        assert_eq!((held.gates, held.healthy), (free.gates, free.healthy));
    }

    #[test]
    fn a_verdict_closes_the_gate_when_it_is_as_old_as_its_lease_and_leaves_the_counts_alone() {
        let open = decide(&inputs(4));
        for (age_ms, decision) in [(0, Decision::Open), (799, Decision::Open), (800, Decision::Closed)] {
            let evaluation = Evaluation::Lease { granted_ms: 800, age_ms };
            let late = decide(&GateInputs { gates: open.gates.clone(), evaluation, ..inputs(4) });
            assert_eq!((late.decision, late.healthy, &late.gates), (decision, 4, &open.gates), "{age_ms} ms");
            assert_eq!(admitted(&late).is_empty(), decision == Decision::Closed);
            assert_eq!(late.reason.contains("ran out after 800 ms"), decision == Decision::Closed);
        }
    }

    fn any_status() -> impl Strategy<Value = HealthStatus> {
        prop::sample::select(HealthStatus::ALL.to_vec())
    }

    fn any_state() -> impl Strategy<Value = MemberState> {
        use MemberState::{Attested, Down, Left, Own, Suspected, Unknown, Up};
        prop::sample::select(vec![Own, Unknown, Up, Attested, Suspected, Down, Left])
    }

    fn any_look() -> impl Strategy<Value = Evaluation> {
        let lease = (0u64..2_000, 0u64..2_000);
        prop_oneof![
            prop::sample::select(vec![Evaluation::Round, Evaluation::BetweenRounds, Evaluation::Untrusted]),
            lease.prop_map(|(granted_ms, age_ms)| Evaluation::Lease { granted_ms, age_ms }),
        ]
    }

    prop_compose! {
        fn any_member()(
            name in "[a-z][a-z0-9-]{0,20}",
            state in any_state(),
            status in any_status(),
            silent_ms in any::<Option<u64>>(),
            phi_thousandths in any::<u64>(),
            reason in ".{0,40}",
        ) -> MemberFacts {
            let name = NodeId::new(&name).expect("of the right form");
            MemberFacts { name, state, status, silent_ms, phi_thousandths, reason }
        }
    }

    prop_compose! {
        fn any_inputs()(
            required in 1usize..6,
            stable_rounds in 1u32..4,
            demands in prop::array::uniform4(0usize..8),
            before in prop::collection::vec(0usize..8, 0..6),
            evaluation in any_look(),
            members in prop::collection::vec(any_member(), 0..8),
            in_doubt in any::<bool>(),
            interval_ms in any::<u64>(),
            hold in prop::option::of(".{0,30}"),
        ) -> GateInputs {
            let mut gates = Gates::new(required, stable_rounds, |class| demands[class as usize]);
            for healthy in before {
                gates.evaluate(Evaluation::Round, healthy);
            }
            let holds = hold.into_iter().map(|why| (ActorName::literal("chain"), why)).collect();
            GateInputs { gates, evaluation, members, in_doubt, interval_ms, holds }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_admitted_below_its_demand_and_no_class_without_the_federation(inputs in any_inputs()) {
            let outcome = decide(&inputs);
            prop_assert!(outcome.decision == Decision::Closed || outcome.healthy >= outcome.required);
            for class in &outcome.classes {
                prop_assert!(class.demand >= outcome.required);
                let admitted = class.decision == Decision::Open;
                prop_assert!(!admitted || !inputs.evaluation.is_too_late());
                let enough = outcome.decision == Decision::Open && outcome.healthy >= class.demand;
                prop_assert!(!admitted || enough);
            }
        }
    }
}
