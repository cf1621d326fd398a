//! How this member leaves.
//!
//! ```text
//!   preparation     farewell    peers are told; the height in hand is decided, or given up
//!   actor_shutdown  actors      dependents first, background before critical
//!   cleanup         supervisors the tree itself; then whatever was added
//!   finalization    record      what the next start finds
//! ```
//!
//! The answers of the ops API go on until all of this is over, so that it can be watched.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_cluster::clock::Clock;
use alys_cluster::federation::{Decision, FederationMessage, GateReader, Staying, WISH_MAX};
use alys_cluster::health::{HealthMessage, RecoveryMessage};
use alys_cluster::mailbox::{Address, Mail};
use alys_cluster::shutdown::{
    QuorumImpact, Request, Requester, ShutdownAnswer, ShutdownCoordinator, ShutdownPhase, ShutdownState,
    Task, actors,
};
use alys_cluster::supervision::SupervisorMessage;
use ractor::{ActorRef, ActorStatus};
use tokio::time::{sleep, timeout};

use crate::actors::consensus::ConsensusMessage;
use crate::actors::consensus::message::DrainResult;
use crate::tree::NodeContext;

/// The phase before any actor stops.
pub const FAREWELL: &str = "farewell";
/// The phase in which actors stop.
pub const ACTORS: &str = "actors";
/// The phase in which supervisors end, and what actors leave is tidied up.
pub const SUPERVISORS: &str = "supervisors";
/// The last phase.
pub const RECORD: &str = "record";

/// The longest a height in hand is waited for, in slots: a proposal, and two more rounds.
const FAREWELL_SLOTS: u32 = 2;
/// The longest a peer is waited for to confirm that it knows.
const CONFIRMATION: Duration = Duration::from_millis(500);
/// Between two looks whether it did.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks whether a member that was refused may leave now.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The longest the federation actor is waited for.
const DEADLINE: Duration = Duration::from_secs(1);
/// What a forced end may take.
const FORCED: Duration = Duration::from_millis(300);

type Root = ActorRef<Mail<SupervisorMessage>>;

fn phases(block_time: Duration, deadline: Duration) -> Vec<ShutdownPhase> {
    let phase =
        |name, state, after, deadline, recovers| ShutdownPhase { name, state, after, deadline, recovers };
    vec![
        // What can not be finished in time is given up: the log has it.
        phase(FAREWELL, ShutdownState::Preparation, vec![], block_time * FAREWELL_SLOTS, true),
        phase(ACTORS, ShutdownState::ActorShutdown, vec![FAREWELL], deadline, true),
        // Supervisors kill whom they still have at its deadline; only one that hangs itself is forced.
        phase(SUPERVISORS, ShutdownState::Cleanup, vec![ACTORS], deadline, false),
        phase(RECORD, ShutdownState::Finalization, vec![SUPERVISORS], deadline, true),
    ]
}

/// The shutdown of the member whose tree hangs below `root`.
pub fn coordinator(context: &NodeContext, root: &Root) -> ShutdownCoordinator {
    let deadline = context.config.stop_deadline;
    let killed = root.clone();
    let coordinator = ShutdownCoordinator::new(
        phases(context.genesis.block_time(), deadline),
        deadline,
        Arc::new(move || {
            let root = killed.clone();
            Box::pin(async move { drop(root.kill_and_wait(Some(FORCED)).await) })
        }),
        context.clock.clone(),
        context.events.clone(),
    )
    .expect("the phases of a member have an order");
    let own = |task: Task| assert_eq!(coordinator.add(task), Ok(true), "a shutdown that has not begun");
    let known = context.clone();
    own(Task::new(FAREWELL, "tell peers", move |reason| tell_peers(known, reason)));
    let known = context.clone();
    own(Task::new(FAREWELL, "finish the height", move |_| finish_height(known)));
    let known = context.clone();
    own(Task::new(ACTORS, "stop actors", move |_| stop_actors(known)));
    let stopped = root.clone();
    own(Task::new(SUPERVISORS, "stop supervisors", move |_| stop_supervisors(stopped)));
    let known = context.clone();
    own(Task::new(RECORD, "say what is left", move |_| async move { Ok(what_is_left(&known)) }));
    coordinator
}

/// Asks this member to leave, knowing what that means to the federation.
pub async fn request(
    context: &NodeContext,
    coordinator: &ShutdownCoordinator,
    requester: Requester,
    reason: &str,
    force: bool,
) -> ShutdownAnswer {
    // Whoever forces does not ask, nor does a shutdown that runs: nothing stands between it and its effect.
    let asks = !force && coordinator.progress().state == ShutdownState::Running;
    let asking = asks.then(|| Asking::begin(context, coordinator, false));
    let impact = match &asking {
        Some(asking) => asking.impact().await,
        None => QuorumImpact::default(),
    };
    coordinator.request(Request { requester, reason: reason.to_owned(), force, impact })
}

/// A signal asks this member to leave. Nobody waits for an answer to a signal, so that it asks on for a while when it is
/// refused: until the others can do without this member, or were told to leave as well.
pub async fn signalled(
    context: &NodeContext,
    coordinator: &ShutdownCoordinator,
    signal: &str,
) -> ShutdownAnswer {
    let is_running = || coordinator.progress().state == ShutdownState::Running;
    let request = |impact| {
        coordinator.request(Request {
            requester: Requester::Signal,
            reason: signal.to_owned(),
            force: false,
            impact,
        })
    };
    if !is_running() {
        return request(QuorumImpact::default());
    }
    let asking = Asking::begin(context, coordinator, true);
    let answer = request(asking.impact().await);
    if matches!(answer, ShutdownAnswer::Refused(_)) {
        tokio::spawn(asking.ask_on(signal.to_owned()));
    }
    answer
}

/// One of those who ask at present whether this member may leave. They share one wish, and the last of them takes it
/// back, if none has been granted it; whoever gives up asking is one of them no longer.
struct Asking {
    count: Arc<Mutex<usize>>,
    federation: Address<FederationMessage>,
    gate: GateReader,
    clock: Arc<dyn Clock>,
    coordinator: ShutdownCoordinator,
    /// Whether the wish stands though it is refused.
    is_told: bool,
}

impl Asking {
    fn begin(context: &NodeContext, coordinator: &ShutdownCoordinator, is_told: bool) -> Self {
        *context.asking.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self {
            count: Arc::clone(&context.asking),
            federation: context.addresses.federation.clone(),
            gate: context.gate.clone(),
            clock: Arc::clone(&context.clock),
            coordinator: coordinator.clone(),
            is_told,
        }
    }

    /// Where the federation stands, once every healthy peer knows that this member wants to leave, or had the time to.
    async fn impact(&self) -> QuorumImpact {
        let verdict = self.gate.verdict(self.clock.now());
        let until = self.clock.now() + CONFIRMATION;
        loop {
            let want = |reply| FederationMessage::Want(self.is_told, reply);
            let Ok((verdict, staying)) = self.federation.call(DEADLINE, want).await else {
                // An actor that is only slow has not said otherwise while its last verdict holds, and nobody has said that
                // it stays; one that hangs has a closed gate, and soon nobody counts its member.
                let (healthy, required) = (verdict.healthy, verdict.required);
                let is_counted = verdict.decision == Decision::Open;
                let unsure = if healthy > required { healthy - 1 } else { 0 };
                return QuorumImpact { healthy, required, is_counted, unsure, told: 0 };
            };
            let Staying { healthy, is_counted, unsure, told } = staying;
            let impact = QuorumImpact { healthy, required: verdict.required, is_counted, unsure, told };
            let at_best = QuorumImpact { unsure: 0, ..impact };
            if at_best.refusal().is_some() {
                return at_best;
            }
            if impact.refusal().is_none() || self.clock.now() >= until {
                return impact;
            }
            sleep(LOOK).await;
        }
    }

    /// Asks until this member may leave, its shutdown runs for another reason, or the wish is over.
    async fn ask_on(self, signal: String) {
        let until = self.clock.now() + WISH_MAX;
        while self.clock.now() < until {
            sleep(ASK_AGAIN).await;
            let impact = self.impact().await;
            if self.coordinator.progress().state != ShutdownState::Running {
                return;
            }
            if impact.refusal().is_none() {
                let reason = format!("{signal}, refused at first");
                tracing::info!(told = impact.told, healthy = impact.healthy, reason, "stopping");
                self.coordinator.request(Request {
                    requester: Requester::Signal,
                    reason,
                    force: false,
                    impact,
                });
                return;
            }
        }
        tracing::info!(signal, "stays: the federation still needs this member");
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Held until the wish is taken back: whoever asks next wishes after that.
        let mut asking = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *asking -= 1;
        if *asking == 0 && self.coordinator.progress().state == ShutdownState::Running {
            // A federation actor that is being restarted begins without a wish.
            let _ = self.federation.cast(FederationMessage::Stay);
        }
    }
}

async fn tell_peers(context: NodeContext, reason: String) -> Result<String, String> {
    // From here on an actor that ends has not failed, and nobody is restarted for not answering. Either may be
    // down, and then says nothing anyway.
    let _ = context.addresses.health.cast(HealthMessage::Shutdown(reason.clone()));
    let _ = context.addresses.recovery.cast(RecoveryMessage::Shutdown);
    let told = async {
        loop {
            let ask = |reply| FederationMessage::Leave(reason.clone(), reply);
            let unaware = context.addresses.federation.call(DEADLINE, ask).await;
            match unaware {
                Ok(unaware) if unaware.is_empty() => return Ok("every peer that answers knows".to_owned()),
                // One that is restarted meanwhile knows nothing of it, and is told again.
                Ok(_) | Err(_) => sleep(LOOK).await,
            }
        }
    };
    timeout(CONFIRMATION, told).await.unwrap_or_else(|_| {
        Ok(format!("told, but not every peer has confirmed within {} ms", CONFIRMATION.as_millis()))
    })
}

async fn finish_height(context: NodeContext) -> Result<String, String> {
    let patience = context.genesis.block_time() * FAREWELL_SLOTS;
    match context.addresses.consensus.call(patience, ConsensusMessage::Leave).await {
        Ok(DrainResult::Finished(height)) => {
            Ok(format!("the chain ends at height {height}, nothing is in hand"))
        }
        Ok(DrainResult::GivenUp(height)) => {
            Ok(format!("height {height} is given up; its log is replayed at the next start"))
        }
        Err(error) => Err(format!("the height in hand is given up: {error}")),
    }
}

async fn stop_actors(context: NodeContext) -> Result<String, String> {
    // Each supervisor kills at the actor's own deadline; this one only keeps from waiting for a supervisor that
    // hangs.
    let deadline = context.config.stop_deadline;
    actors::stop(&context.supervision.tree, deadline).await.map_err(|circle| circle.to_string())?.note()
}

async fn stop_supervisors(root: Root) -> Result<String, String> {
    if root.get_status() == ActorStatus::Stopped {
        return Ok("the tree had ended before".to_owned());
    }
    let stopped = root.stop_and_wait(Some("shutdown".to_owned()), None).await;
    stopped.map(|()| "the tree is gone".to_owned()).map_err(|error| error.to_string())
}

fn what_is_left(context: &NodeContext) -> String {
    let head = context.head.head();
    format!("the chain ends at height {} with block {}", head.height, head.hash)
}
