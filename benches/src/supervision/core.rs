//! Fixture: a supervisor's decision core without a runtime, whose children fail in turn and run again at once.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::{Moment, SystemClock};
use alys_cluster::event::EventBus;
use alys_cluster::id::{ActorName, ActorPriority};
use alys_cluster::mailbox::Address;
use alys_cluster::supervision::child::ChildKey;
use alys_cluster::supervision::command::Command;
use alys_cluster::supervision::decision::{DecisionInputs, RestartThrottle};
use alys_cluster::supervision::failure::Exit;
use alys_cluster::supervision::intensity::Budget;
use alys_cluster::supervision::slot::SlotTiming;
use alys_cluster::supervision::spec::ChildPolicy;
use alys_cluster::supervision::state::{Effect, Environment, Input, SupervisorState};
use alys_cluster::supervision::{
    ActorFailureType, ChildSpec, Context, EscalationTable, ExponentialBackoffConfig, Failure, FailureClass,
    RestartIntensity, RestartStrategy, SupervisorSpec,
};

use super::tree::{Ledger, Worker};

/// Time between two blocks.
pub const BLOCK_TIME: Duration = Duration::from_secs(2);
/// Restart intensity without a practical limit, whose window a restart storm fills with some hundred restarts.
pub const ENDLESS: RestartIntensity =
    RestartIntensity { max_restarts: u32::MAX, within: Duration::from_secs(1) };
/// Virtual time between failures.
const STEP: Duration = Duration::from_millis(2);

/// The specification's three backoffs. It names them without defining them; here they are a fast one without alignment,
/// the default, and the default aligned to blocks and kept out of the consensus window.
pub fn backoffs() -> [(&'static str, ExponentialBackoffConfig); 3] {
    let standard = ExponentialBackoffConfig::default();
    let (initial_delay, max_delay) = (Duration::from_millis(50), Duration::from_secs(2));
    let fast = ExponentialBackoffConfig { initial_delay, max_delay, multiplier: 1.5, ..standard };
    let aware = ExponentialBackoffConfig {
        align_to_block_boundary: true,
        respect_consensus_timing: true,
        ..standard
    };
    [("fast", fast), ("standard", standard), ("blockchain-aware", aware)]
}

/// Kinds of failure whose handling the specification times.
pub fn failures() -> [(&'static str, ActorFailureType); 5] {
    let error = || "connection reset by peer".to_owned();
    [
        ("panic", ActorFailureType::Panic { backtrace: None }),
        ("timeout", ActorFailureType::Timeout { duration: Duration::from_secs(5) }),
        ("consensus", ActorFailureType::ConsensusFailure { error_code: "conflicting precommit".to_owned() }),
        ("network", ActorFailureType::NetworkFailure { peer_id: Some("node-2".to_owned()), error: error() }),
        (
            "governance",
            ActorFailureType::GovernanceFailure { event_type: "validator_update".to_owned(), error: error() },
        ),
    ]
}

/// Converts a failure to the form in which a supervisor receives it: a panic from its report, anything else from a
/// typed error.
pub fn learnt(kind: &ActorFailureType) -> Failure {
    match kind {
        ActorFailureType::Panic { .. } => {
            Failure::panic("index out of bounds".to_owned(), "node/src/chain.rs:17:9".to_owned(), None)
        }
        other => Failure::of_error(other),
    }
}

/// Environment that keeps no history.
#[derive(Clone, Copy, Debug)]
pub struct Forgetful;

fn slots() -> SlotTiming {
    SlotTiming { boundary: Moment::at(Duration::from_millis(700)), block_time: BLOCK_TIME }
}

impl Environment for Forgetful {
    fn slots(&self) -> Option<SlotTiming> {
        Some(slots())
    }

    fn block_time(&self) -> (Duration, Duration) {
        (BLOCK_TIME, Duration::from_millis(600))
    }

    fn random(&mut self) -> f64 {
        0.3
    }

    fn bound(&mut self, _: Moment, _: ActorPriority) -> Budget {
        Budget { used: 0, most: 10 }
    }

    fn spend(&mut self, _: Moment, _: ActorPriority) -> bool {
        true
    }

    fn observe(&mut self, _: Moment, _: &ChildPolicy, _: &Failure) -> RestartThrottle {
        RestartThrottle::NONE
    }
}

/// Inputs of one decision, for the most restrictive strategy.
pub fn inputs() -> DecisionInputs {
    let now = Moment::at(Duration::from_millis(10_300));
    let [_, _, (_, aware)] = backoffs();
    DecisionInputs {
        now,
        away_since: now,
        comes_back: true,
        class: FailureClass::Transient,
        ladder: EscalationTable::TIER.ladder(ActorPriority::Critical, FailureClass::Transient),
        strategy: RestartStrategy::ExponentialBackoff(aware),
        at_boundary: true,
        attempt: 2,
        random: 0.3,
        slots: Some(slots()),
        block_time: BLOCK_TIME,
        consensus_window: Duration::from_millis(600),
        restarts: Budget { used: 1, most: 3 },
        slots_missed: Budget { used: 1, most: 5 },
        slots_spared: 0,
        bound: Budget { used: 2, most: 10 },
        siblings_restarted: false,
        tightening: RestartThrottle { factor: 2.0, open_until: None },
    }
}

/// Supervisor state with critical children that fail in turn.
#[derive(Debug)]
pub struct Core {
    state: SupervisorState,
    children: Vec<ChildKey>,
    next: usize,
    now: Moment,
}

impl Core {
    /// Starts `children` children. Consensus failures halt a child until it is started by hand, so that none ends the
    /// supervisor.
    ///
    /// # Panics
    ///
    /// If a start is refused.
    pub fn new(children: usize, around: &mut dyn Environment) -> Self {
        let spec = SupervisorSpec {
            intensity: ENDLESS,
            escalation: EscalationTable::ROOT,
            halt_for: Duration::from_mins(10),
            ..SupervisorSpec::new(ActorName::literal("core"), Vec::new())
        };
        let mut state = SupervisorState::new(&spec);
        let now = Moment::at(Duration::from_secs(1));
        let clock = Arc::new(SystemClock::default());
        let context = Context::new("core", clock.clone(), EventBus::new(clock));
        let add = |n: usize| {
            let name = ActorName::new(&format!("child-{n}")).expect("a name");
            let address = Address::new(name, 64);
            let make = || (Worker::new(Ledger::new()), ());
            let child = ChildSpec::worker(&context, &address, make).priority(ActorPriority::Critical);
            let key = state.add(now, child.policy).expect("a new name");
            state.handle(now, around, Input::Command(key, Command::Start)).expect("it may start");
            state.handle(now, around, Input::Started(key)).expect("no command");
            key
        };
        let children = (0..children).map(add).collect();
        Self { state, children, next: 0, now }
    }

    /// Lets the next child fail; returns the supervisor's effects.
    ///
    /// # Panics
    ///
    /// If the failure is refused.
    pub fn fail(&mut self, around: &mut dyn Environment, failure: Failure) -> Vec<Effect> {
        self.now = self.now + STEP;
        let exit = Input::Ended(self.children[self.next], Exit::abnormal(failure));
        self.state.handle(self.now, around, exit).expect("no command")
    }

    /// Brings the failed child back: by its restart, or by an operator's start command if consensus was halted.
    ///
    /// # Panics
    ///
    /// If the start is refused.
    pub fn recover(&mut self, around: &mut dyn Environment, effects: &[Effect]) -> Moment {
        let key = self.children[self.next];
        if effects.iter().any(|effect| matches!(effect, Effect::Halt(..))) {
            self.state.handle(self.now, around, Input::Command(key, Command::Start)).expect("it is halted");
        }
        self.state.handle(self.now, around, Input::Started(key)).expect("no command");
        self.next = (self.next + 1) % self.children.len();
        self.now
    }

    /// Name of the child that fails next.
    ///
    /// # Panics
    ///
    /// If the child is no longer known.
    pub fn next_name(&self) -> ActorName {
        self.state.child(self.children[self.next]).expect("it is kept").policy.name.clone()
    }
}
