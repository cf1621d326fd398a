//! One decision about one failure: all its inputs and its result, as plain data.
//!
//! [`decide`] is the only place where a restart is granted or refused. An event reports the inputs together with the
//! decision, so every restart can be reproduced: the same inputs give the same decision.

use std::fmt;
use std::time::Duration;

use super::escalation::{EscalationPath, EscalationStep};
use super::failure::{Failure, FailureClass};
use super::intensity::Budget;
use super::slot::SlotTiming;
use super::strategy::RestartStrategy;
use crate::clock::Moment;
use crate::id::ActorName;

/// How recent failure patterns delay a restart: see [`super::pattern`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RestartThrottle {
    /// Factor that the strategy's delay is multiplied by; 1 or more.
    pub factor: f64,
    /// Moment until which an open circuit breaker forbids a restart; `None` if it is closed.
    pub open_until: Option<Moment>,
}

impl RestartThrottle {
    /// No throttling.
    pub const NONE: Self = Self { factor: 1.0, open_until: None };
}

/// All inputs of a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionInputs {
    /// Time of the decision.
    pub now: Moment,
    /// Moment since which the child is down: `now`, or earlier if this is a failed start.
    pub away_since: Moment,
    /// Whether the child's restart type asks for a restart after such an exit.
    pub comes_back: bool,
    /// Class of the failure. After [`FailureClass::Exhausted`], even an immediate restart is delayed.
    pub class: FailureClass,
    /// Escalation steps for its tier and class.
    pub ladder: EscalationPath,
    /// Delay between its restarts.
    pub strategy: RestartStrategy,
    /// Whether it is restarted only at the next slot boundary.
    pub at_boundary: bool,
    /// Number of this restart in a row, from 1.
    pub attempt: u32,
    /// Random number from 0 to 1, for the jitter.
    pub random: f64,
    /// Start times of the slots, if known; otherwise nothing is aligned to slots.
    pub slots: Option<SlotTiming>,
    /// Block time, for rounding delays.
    pub block_time: Duration,
    /// Time after the start of a slot in which the members propose and vote.
    pub consensus_window: Duration,
    /// Budget of restarts by this supervisor.
    pub restarts: Budget,
    /// Budget of slots missed by its restarts.
    pub slots_missed: Budget,
    /// Number of slots missed so far because a circuit breaker was open, which are not charged: see
    /// [`DecisionInputs::pause`].
    pub slots_spared: u64,
    /// Budget of restarts in the whole tree.
    pub bound: Budget,
    /// Whether all siblings were already restarted within the supervisor's window.
    pub siblings_restarted: bool,
    /// Throttling due to failure patterns.
    pub tightening: RestartThrottle,
}

/// Writes every field; times are relative to the origin of the process's clock.
impl fmt::Display for DecisionInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_origin = |moment: Moment| moment.since(Moment::ORIGIN);
        let ladder: Vec<_> = self.ladder.iter().map(|step| step.as_str()).collect();
        write!(f, "now {:?}, away since {:?}", since_origin(self.now), since_origin(self.away_since))?;
        write!(f, ", comes back {}, class {}, ladder {}", self.comes_back, self.class, ladder.join(" > "))?;
        write!(f, ", strategy {:?}, at boundary {}", self.strategy, self.at_boundary)?;
        write!(f, ", attempt {}, random {}", self.attempt, self.random)?;
        match self.slots {
            Some(slots) => write!(f, ", a slot begins at {:?}", since_origin(slots.boundary))?,
            None => f.write_str(", slots unknown")?,
        }
        write!(f, ", block time {:?}, consensus window {:?}", self.block_time, self.consensus_window)?;
        for (name, budget) in
            [("restarts", self.restarts), ("slots missed", self.slots_missed), ("whole tree", self.bound)]
        {
            write!(f, ", {name} {} of {}", budget.used, budget.most)?;
        }
        write!(f, ", slots spared {}", self.slots_spared)?;
        write!(f, ", siblings restarted {}", self.siblings_restarted)?;
        write!(f, ", delay times {}", self.tightening.factor)?;
        match self.tightening.open_until {
            Some(until) => write!(f, ", circuit open until {:?}", since_origin(until)),
            None => f.write_str(", circuit closed"),
        }
    }
}

/// Result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartDecision {
    /// Escalation step to take.
    pub step: EscalationStep,
    /// Whether consensus operations are also halted.
    pub halts: bool,
    /// For a restart: the earliest moment for it; otherwise the time of the decision.
    pub due: Moment,
    /// What prevented a restart, if anything did.
    pub obstacle: Option<Obstacle>,
}

/// Reason that prevents a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The restart type does not ask for a restart.
    NotWanted,
    /// The escalation path of this class has no restart.
    Class,
    /// The strategy allows no more restarts in a row.
    Attempts,
    /// The supervisor exceeded its restart intensity.
    Intensity,
    /// Too many slots were missed, or would be.
    Slots,
    /// The whole tree exceeded its restart budget.
    Bound,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWanted => "its restart type does not bring it back",
            Self::Class => "a restart would only repeat it",
            Self::Attempts => "its strategy's attempts are used up",
            Self::Intensity => "restart intensity exceeded",
            Self::Slots => "the budget of missed slots is exceeded",
            Self::Bound => "the whole tree's restart budget is exceeded",
        })
    }
}

/// A decision with the failure and its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRecord {
    /// Child that failed.
    pub child: ActorName,
    /// Failure that was decided about.
    pub failure: Failure,
    /// Inputs of the decision.
    pub inputs: DecisionInputs,
    /// Result of the decision.
    pub decision: RestartDecision,
}

impl fmt::Display for DecisionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { child, failure, inputs: on, decision } = self;
        let (kind, class) = (failure.kind().kind(), failure.class());
        write!(f, "{child} failed ({kind}, {class}): ")?;
        if decision.halts {
            f.write_str("halt_consensus and ")?;
        }
        f.write_str(decision.step.as_str())?;
        match decision.due.since(on.now) {
            Duration::ZERO => {}
            delay => write!(f, " in {delay:?}")?,
        }
        if let Some(obstacle) = decision.obstacle {
            write!(f, ", for {obstacle}")?;
        }
        let (strategy, attempt, random) = (on.strategy.as_str(), on.attempt, on.random);
        write!(f, " [strategy {strategy}, attempt {attempt}, random {random:.3}")?;
        for (name, budget) in
            [("restarts", on.restarts), ("slots missed", on.slots_missed), ("in the whole tree", on.bound)]
        {
            match budget.most {
                // A practically unlimited budget reads better without its number.
                most if most >= u64::from(u32::MAX) => write!(f, ", {} {name}", budget.used)?,
                most => write!(f, ", {} of {most} {name}", budget.used)?,
            }
        }
        if let Some(slots) = on.slots {
            write!(f, ", next slot in {:?}", slots.next_boundary(on.now).since(on.now))?;
        }
        if on.tightening != RestartThrottle::NONE {
            write!(f, ", delay times {}", on.tightening.factor)?;
            if let Some(until) = on.tightening.open_until {
                write!(f, ", circuit open for {:?}", until.since(on.now))?;
            }
        }
        f.write_str("]")
    }
}

/// The earliest moment for a restart; `None` if the strategy allows none.
fn due(inputs: &DecisionInputs) -> Option<Moment> {
    let delay = inputs.strategy.delay(inputs.attempt, inputs.random, inputs.block_time)?;
    let delay = if inputs.class == FailureClass::Exhausted {
        delay.max(exhausted_pause(inputs.attempt))
    } else {
        delay
    };
    let delay = if inputs.tightening.factor > 1.0 {
        // A delay too large for a duration becomes the maximum.
        Duration::try_from_secs_f64(delay.as_secs_f64() * inputs.tightening.factor).unwrap_or(Duration::MAX)
    } else {
        delay
    };
    Some(inputs.now + delay)
}

/// Minimum delay after a resource ran out: 500 ms, doubled with each restart in a row, up to 8 s.
fn exhausted_pause(attempt: u32) -> Duration {
    Duration::from_millis(500) * 2u32.pow(attempt.saturating_sub(1).min(4))
}

/// Moves `due` out of the consensus window, then to the next slot boundary, as the inputs require.
fn aligned(inputs: &DecisionInputs, mut due: Moment) -> Moment {
    if let Some(slots) = inputs.slots {
        if inputs.strategy.respects_consensus_timing() {
            due = slots.after_window(due, inputs.consensus_window);
        }
        if inputs.at_boundary {
            due = slots.next_boundary(due);
        }
    }
    due
}

/// When a step would restart the child.
#[derive(Clone, Copy)]
struct Plan {
    due: Moment,
    /// The same without an open circuit breaker. The budget of missed slots is checked against this moment, because an
    /// open breaker delays a restart but never refuses one.
    freely: Moment,
}

/// When `step` would restart the child; `None` if it would not.
fn plan(inputs: &DecisionInputs, step: EscalationStep) -> Option<Plan> {
    let due = match step {
        EscalationStep::Restart => due(inputs)?,
        EscalationStep::RestartSiblings if !inputs.siblings_restarted => inputs.now,
        _ => return None,
    };
    let closed = inputs.tightening.open_until.map_or(due, |open_until| due.max(open_until));
    Some(Plan { due: aligned(inputs, closed), freely: aligned(inputs, due) })
}

impl DecisionInputs {
    /// The period by which an open circuit breaker delays the decided restart. Slots missed in it are not charged.
    pub fn pause(&self, decision: &RestartDecision) -> Option<(Moment, Moment)> {
        let plan = plan(self, decision.step)?;
        (plan.freely < plan.due).then_some((plan.freely, plan.due))
    }
}

/// The first reason that prevents a restart.
fn obstacle(inputs: &DecisionInputs, plan: Plan) -> Option<Obstacle> {
    let missed = inputs.slots.map_or(0, |slots| slots.missed(inputs.away_since, plan.freely));
    let missed = missed.saturating_sub(inputs.slots_spared);
    if !inputs.restarts.allows(1) {
        Some(Obstacle::Intensity)
    } else if !inputs.slots_missed.allows(missed) {
        Some(Obstacle::Slots)
    } else if !inputs.bound.allows(1) {
        Some(Obstacle::Bound)
    } else {
        None
    }
}

/// Decides what follows from a failure.
pub fn decide(inputs: &DecisionInputs) -> RestartDecision {
    let now = inputs.now;
    let mut decision =
        RestartDecision { step: EscalationStep::StayDown, halts: false, due: now, obstacle: None };
    // A halt does not depend on the restart type, because the failure may affect all members.
    let wanted = inputs.comes_back || inputs.ladder.first() == Some(&EscalationStep::HaltConsensus);
    if !wanted {
        decision.obstacle = Some(Obstacle::NotWanted);
        return decision;
    }
    decision.obstacle = Some(Obstacle::Class);
    for &step in inputs.ladder {
        match step {
            EscalationStep::Restart | EscalationStep::RestartSiblings if !inputs.comes_back => {}
            EscalationStep::Restart | EscalationStep::RestartSiblings => {
                match plan(inputs, step).map(|plan| (plan.due, obstacle(inputs, plan))) {
                    Some((due, None)) => return RestartDecision { step, due, obstacle: None, ..decision },
                    Some((_, obstacle)) => decision.obstacle = obstacle,
                    None if step == EscalationStep::RestartSiblings => {}
                    None => decision.obstacle = Some(Obstacle::Attempts),
                }
            }
            EscalationStep::HaltConsensus => decision.halts = true,
            EscalationStep::RaiseToParent | EscalationStep::StayDown | EscalationStep::StopNode => {
                return RestartDecision { step, ..decision };
            }
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::super::escalation::EscalationTable;
    use super::super::strategy::{ExponentialBackoffConfig, FixedDelayConfig};
    use super::*;
    use crate::id::ActorPriority::{Background, Critical};

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn inputs() -> DecisionInputs {
        DecisionInputs {
            now: at(10_300),
            away_since: at(10_300),
            comes_back: true,
            ladder: EscalationTable::TIER.ladder(Critical, FailureClass::Transient),
            class: FailureClass::Transient,
            strategy: RestartStrategy::Immediate,
            at_boundary: false,
            attempt: 1,
            random: 0.5,
            slots: Some(SlotTiming { boundary: at(2_000), block_time: Duration::from_secs(2) }),
            block_time: Duration::from_secs(2),
            consensus_window: Duration::from_millis(600),
            restarts: Budget { used: 0, most: 3 },
            slots_missed: Budget { used: 0, most: 3 },
            slots_spared: 0,
            bound: Budget { used: 0, most: 10 },
            siblings_restarted: false,
            tightening: RestartThrottle::NONE,
        }
    }

    fn decided(change: impl FnOnce(&mut DecisionInputs)) -> (EscalationStep, bool, Moment, Option<Obstacle>) {
        let mut inputs = inputs();
        change(&mut inputs);
        let RestartDecision { step, halts, due, obstacle } = decide(&inputs);
        (step, halts, due, obstacle)
    }

    #[test]
    fn a_restart_is_due_when_strategy_pattern_window_and_boundary_have_had_their_say() {
        use EscalationStep::Restart;
        let backoff = |respect_consensus_timing| {
            RestartStrategy::ExponentialBackoff(ExponentialBackoffConfig {
                jitter: 0.0,
                respect_consensus_timing,
                ..ExponentialBackoffConfig::default()
            })
        };
        assert_eq!(decided(|_| {}), (Restart, false, at(10_300), None));
        assert_eq!(decided(|i| i.at_boundary = true), (Restart, false, at(12_000), None));
        assert_eq!(decided(|i| i.strategy = backoff(false)), (Restart, false, at(10_400), None));
        assert_eq!(decided(|i| i.strategy = backoff(true)), (Restart, false, at(10_600), None));
        let doubled = |i: &mut DecisionInputs| {
            i.strategy = backoff(false);
            i.tightening.factor = 2.0;
        };
        assert_eq!(decided(doubled), (Restart, false, at(10_500), None));
        let open = |i: &mut DecisionInputs| i.tightening.open_until = Some(at(14_100));
        assert_eq!(decided(open), (Restart, false, at(14_100), None));
        let unknown = |i: &mut DecisionInputs| {
            i.at_boundary = true;
            i.slots = None;
        };
        assert_eq!(decided(unknown), (Restart, false, at(10_300), None));
        let exhausted = |attempt| {
            move |i: &mut DecisionInputs| {
                i.class = FailureClass::Exhausted;
                i.attempt = attempt;
            }
        };
        assert_eq!(
            decided(exhausted(1)),
            (Restart, false, at(10_800), None),
            "a full disk is given a moment"
        );
        assert_eq!(decided(exhausted(3)), (Restart, false, at(12_300), None));
    }

    #[test]
    fn siblings_are_not_restarted_around_an_open_circuit_or_a_slot() {
        use EscalationStep::RestartSiblings;
        let open = |i: &mut DecisionInputs| {
            i.strategy = RestartStrategy::Never;
            i.tightening.open_until = Some(at(13_000));
        };
        assert_eq!(decided(open), (RestartSiblings, false, at(13_000), None));
        let boundary = |i: &mut DecisionInputs| {
            i.strategy = RestartStrategy::Never;
            i.at_boundary = true;
        };
        assert_eq!(decided(boundary), (RestartSiblings, false, at(12_000), None));
    }

    #[test]
    fn whatever_refuses_a_restart_is_named_and_the_next_step_is_taken() {
        use EscalationStep::{RaiseToParent, RestartSiblings, StayDown};
        let now = at(10_300);
        let spent = Budget { used: 3, most: 3 };
        assert_eq!(decided(|i| i.restarts = spent), (RaiseToParent, false, now, Some(Obstacle::Intensity)));
        assert_eq!(decided(|i| i.bound = spent), (RaiseToParent, false, now, Some(Obstacle::Bound)));
        let slow = |i: &mut DecisionInputs| {
            i.ladder = EscalationTable::OTP.ladder(Critical, FailureClass::Transient);
            i.strategy = RestartStrategy::FixedDelay(FixedDelayConfig {
                delay: Duration::from_secs(9),
                ..FixedDelayConfig::default()
            });
        };
        assert_eq!(decided(slow), (RaiseToParent, false, now, Some(Obstacle::Slots)));
        assert_eq!(decided(|i| i.strategy = RestartStrategy::Never), (RestartSiblings, false, now, None));
        let again = |i: &mut DecisionInputs| {
            i.strategy = RestartStrategy::Never;
            i.siblings_restarted = true;
        };
        assert_eq!(decided(again), (RaiseToParent, false, now, Some(Obstacle::Attempts)));
        let unwanted = |i: &mut DecisionInputs| i.comes_back = false;
        assert_eq!(decided(unwanted), (StayDown, false, now, Some(Obstacle::NotWanted)));
    }

    #[test]
    fn slots_that_an_open_circuit_makes_a_child_miss_are_not_charged() {
        use EscalationStep::{RaiseToParent, Restart};
        // Ten slot boundaries lie in between; three missed slots are allowed.
        let open = |i: &mut DecisionInputs| i.tightening.open_until = Some(at(31_000));
        assert_eq!(decided(open), (Restart, false, at(31_000), None));
        // Down for four boundaries, three of them because of an open circuit breaker; then it failed to start.
        let again = |spared| {
            move |i: &mut DecisionInputs| {
                i.away_since = at(3_000);
                i.slots_spared = spared;
                i.ladder = EscalationTable::OTP.ladder(Critical, FailureClass::Transient);
                open(i);
            }
        };
        assert_eq!(decided(again(3)), (Restart, false, at(31_000), None));
        assert_eq!(decided(again(0)), (RaiseToParent, false, at(10_300), Some(Obstacle::Slots)));
        let pause = |change: &dyn Fn(&mut DecisionInputs)| {
            let mut inputs = inputs();
            change(&mut inputs);
            inputs.pause(&decide(&inputs))
        };
        assert_eq!(pause(&open), Some((at(10_300), at(31_000))));
        let with_the_slot = |i: &mut DecisionInputs| {
            open(i);
            i.at_boundary = true;
        };
        assert_eq!(pause(&with_the_slot), Some((at(12_000), at(32_000))));
        assert_eq!(pause(&|i| i.tightening.open_until = Some(at(10_000))), None);
        assert_eq!(pause(&again(0)), None, "what is not restarted does not wait");
    }

    #[test]
    fn the_class_and_the_tier_pick_the_ladder_and_consensus_is_halted_first() {
        use EscalationStep::{RaiseToParent, StayDown, StopNode};
        let now = at(10_300);
        let ladder = |table: EscalationTable, tier, class| {
            decided(move |i: &mut DecisionInputs| i.ladder = table.ladder(tier, class))
        };
        let (tier, root) = (EscalationTable::TIER, EscalationTable::ROOT);
        let class = Some(Obstacle::Class);
        assert_eq!(ladder(tier, Critical, FailureClass::Corrupt), (RaiseToParent, false, now, class));
        assert_eq!(ladder(tier, Background, FailureClass::Configuration), (StayDown, false, now, class));
        assert_eq!(ladder(tier, Critical, FailureClass::ConsensusFatal), (RaiseToParent, true, now, class));
        assert_eq!(ladder(root, Critical, FailureClass::Corrupt), (StopNode, true, now, class));
        let fatal_and_unwanted = |i: &mut DecisionInputs| {
            i.comes_back = false;
            i.ladder = tier.ladder(Critical, FailureClass::ConsensusFatal);
        };
        assert_eq!(decided(fatal_and_unwanted), (RaiseToParent, true, now, class));
    }
}
