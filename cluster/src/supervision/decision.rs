//! One decision over one failure: everything it depends on, and what follows, as plain data.
//!
//! [`decide`] is the only place where a restart is granted or refused. Its inputs are told with the decision as
//! an event, so that every restart can be replayed on paper: the same inputs give the same decision.

use std::fmt;
use std::time::Duration;

use super::escalation::{EscalationPath, EscalationStep};
use super::failure::{Failure, FailureClass};
use super::intensity::Budget;
use super::slot::SlotTiming;
use super::strategy::RestartStrategy;
use crate::clock::Moment;
use crate::id::ActorName;

/// How much more careful recent patterns of failure make a restart: see [`super::pattern`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RestartThrottle {
    /// The strategy's delay is multiplied by this; 1 or more.
    pub factor: f64,
    /// The circuit is open: no restart before this moment.
    pub open_until: Option<Moment>,
}

impl RestartThrottle {
    /// Nothing recent.
    pub const NONE: Self = Self { factor: 1.0, open_until: None };
}

/// Everything a decision depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionInputs {
    /// When it is taken.
    pub now: Moment,
    /// Since when the child is away: `now`, or earlier if this is a start that failed.
    pub away_since: Moment,
    /// Whether the child's restart type wants it back after such an exit.
    pub comes_back: bool,
    /// What the failure calls for. With what ran out, even a restart at once is put off for a moment.
    pub class: FailureClass,
    /// The steps for its tier and class.
    pub ladder: EscalationPath,
    /// How its restarts are spaced.
    pub strategy: RestartStrategy,
    /// Whether it starts at the next slot boundary only.
    pub at_boundary: bool,
    /// Which restart in a row this would be, from 1.
    pub attempt: u32,
    /// From 0 to 1, for the jitter.
    pub random: f64,
    /// Where slots begin, if known; without it nothing is aligned to a moment.
    pub slots: Option<SlotTiming>,
    /// The block time, for rounding delays.
    pub block_time: Duration,
    /// How long after a slot's beginning the members propose and vote.
    pub consensus_window: Duration,
    /// Restarts by this supervisor.
    pub restarts: Budget,
    /// Slots missed by its restarts.
    pub slots_missed: Budget,
    /// Slots missed so far because a circuit was open, which are not charged: see [`DecisionInputs::pause`].
    pub slots_spared: u64,
    /// Restarts in the whole tree.
    pub bound: Budget,
    /// Whether all siblings were restarted already within the supervisor's window.
    pub siblings_restarted: bool,
    /// What patterns of failure ask for.
    pub tightening: RestartThrottle,
}

/// Everything, field by field; times are counted from the origin of the process's clock.
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

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartDecision {
    /// What is done.
    pub step: EscalationStep,
    /// Whether consensus operations are halted besides.
    pub halts: bool,
    /// For a restart: not before this moment; else the moment of the decision.
    pub due: Moment,
    /// What stood in the way of a restart, if something did.
    pub obstacle: Option<Obstacle>,
}

/// What stands in the way of a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The restart type does not want the child back.
    NotWanted,
    /// The ladder has no restart for this class.
    Class,
    /// The strategy allows no more restarts in a row.
    Attempts,
    /// The supervisor restarted too often.
    Intensity,
    /// Too many slots were missed, or would be.
    Slots,
    /// The whole tree restarted too often.
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

/// One decision: over what, from what, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRecord {
    /// The child.
    pub child: ActorName,
    /// What happened to it.
    pub failure: Failure,
    /// What the decision depends on.
    pub inputs: DecisionInputs,
    /// The decision.
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
                // A budget that is not there in practice reads better without its number.
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

/// Not before when the restart could take place; `None` if the strategy allows none.
fn due(inputs: &DecisionInputs) -> Option<Moment> {
    let delay = inputs.strategy.delay(inputs.attempt, inputs.random, inputs.block_time)?;
    let delay = if inputs.class == FailureClass::Exhausted {
        delay.max(exhausted_pause(inputs.attempt))
    } else {
        delay
    };
    let delay = if inputs.tightening.factor > 1.0 {
        // Beyond what a duration holds, it is as long as one can be.
        Duration::try_from_secs_f64(delay.as_secs_f64() * inputs.tightening.factor).unwrap_or(Duration::MAX)
    } else {
        delay
    };
    Some(inputs.now + delay)
}

/// How long something that ran out is given at least: 500 ms, twice as long with each restart in a row, up to 8 s.
fn exhausted_pause(attempt: u32) -> Duration {
    Duration::from_millis(500) * 2u32.pow(attempt.saturating_sub(1).min(4))
}

/// `due`, or later: when the consensus window is over, the slot begins.
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

/// When a step would restart.
#[derive(Clone, Copy)]
struct Plan {
    due: Moment,
    /// The same if no circuit were open. The budget of missed slots is asked for this one: an open circuit makes a
    /// restart later, and never refuses one.
    freely: Moment,
}

/// When `step` would restart; `None` if it does not.
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
    /// The time by which an open circuit makes the restart that was decided later. Its slots are not charged.
    pub fn pause(&self, decision: &RestartDecision) -> Option<(Moment, Moment)> {
        let plan = plan(self, decision.step)?;
        (plan.freely < plan.due).then_some((plan.freely, plan.due))
    }
}

/// What stands in the way of a restart.
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

/// What follows from a failure under these circumstances.
pub fn decide(inputs: &DecisionInputs) -> RestartDecision {
    let now = inputs.now;
    let mut decision =
        RestartDecision { step: EscalationStep::StayDown, halts: false, due: now, obstacle: None };
    // Only halting does not depend on whether the child is wanted back: what it broke is broken for all.
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
        // Ten boundaries lie in between, and three are allowed.
        let open = |i: &mut DecisionInputs| i.tightening.open_until = Some(at(31_000));
        assert_eq!(decided(open), (Restart, false, at(31_000), None));
        // Away for four boundaries, three of which an open circuit made it miss; then it failed to start.
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
