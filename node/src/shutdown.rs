//! Defines the phases and tasks of this member's shutdown.
//!
//! ```text
//!   preparation     farewell    notify peers; finish the current height, or abort it
//!   actor_shutdown  actors      dependents first, background before critical
//!   cleanup         supervisors the tree itself; then tasks that were added
//!   finalization    record      log the state that the next start finds
//! ```
//!
//! The ops API answers until all phases are over, so that the shutdown can be observed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_cluster::clock::Clock;
use alys_cluster::federation::{Decision, FederationMessage, GateReader, Staying, WISH_MAX};
use alys_cluster::health::{HealthMessage, RecoveryMessage};
use alys_cluster::mailbox::Address;
use alys_cluster::shutdown::{
    QuorumImpact, Request, Requester, ShutdownAnswer, ShutdownCoordinator, ShutdownPhase, ShutdownState,
    Task, actors,
};
use ractor::{ActorCell, ActorStatus};
use tokio::time::{sleep, timeout};

use crate::actors::consensus::ConsensusMessage;
use crate::actors::consensus::message::DrainResult;
use crate::tree::NodeContext;

/// Phase before any actor stops.
pub const FAREWELL: &str = "farewell";
/// Phase in which actors stop.
pub const ACTORS: &str = "actors";
/// Phase in which supervisors stop and remaining resources are cleaned up.
pub const SUPERVISORS: &str = "supervisors";
/// Last phase.
pub const RECORD: &str = "record";

/// Longest wait for the current height to finish, in slots: a proposal and two more rounds.
const FAREWELL_SLOTS: u32 = 2;
/// Longest wait for a peer's acknowledgement.
const CONFIRMATION: Duration = Duration::from_millis(500);
/// Interval between checks for acknowledgements.
const LOOK: Duration = Duration::from_millis(20);
/// Interval between retries of a refused shutdown request.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Longest wait for the federation actor.
const DEADLINE: Duration = Duration::from_secs(1);
/// Longest duration of a forced stop.
const FORCED: Duration = Duration::from_millis(300);

type Root = ActorCell;

fn phases(block_time: Duration, deadline: Duration) -> Vec<ShutdownPhase> {
    let phase =
        |name, state, after, deadline, recovers| ShutdownPhase { name, state, after, deadline, recovers };
    vec![
        // A height that does not finish in time is aborted: the consensus log allows its replay.
        phase(FAREWELL, ShutdownState::Preparation, vec![], block_time * FAREWELL_SLOTS, true),
        phase(ACTORS, ShutdownState::ActorShutdown, vec![FAREWELL], deadline, true),
        // Supervisors kill their remaining children at their own deadline; only a supervisor that hangs itself is
        // forced.
        phase(SUPERVISORS, ShutdownState::Cleanup, vec![ACTORS], deadline, false),
        phase(RECORD, ShutdownState::Finalization, vec![SUPERVISORS], deadline, true),
    ]
}

/// Creates the shutdown coordinator of the member whose supervision tree has this `root`.
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

/// Requests the shutdown of this member, with its impact on the federation's quorum.
pub async fn request(
    context: &NodeContext,
    coordinator: &ShutdownCoordinator,
    requester: Requester,
    reason: &str,
    force: bool,
) -> ShutdownAnswer {
    // A forced request, or one during a running shutdown, skips the quorum check and takes effect at once.
    let asks = !force && coordinator.progress().state == ShutdownState::Running;
    let asking = asks.then(|| Asking::begin(context, coordinator, false));
    let impact = match &asking {
        Some(asking) => asking.impact().await,
        None => QuorumImpact::default(),
    };
    coordinator.request(Request { requester, reason: reason.to_owned(), force, impact })
}

/// Requests the shutdown because of a signal. A signal has no caller that could retry, so a refused request is retried
/// for a while: until the federation can work without this member, or the other members were told to shut down as well.
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

/// One pending request to leave the federation. All pending requests share one announced intention to leave. Dropping
/// the last of them withdraws it, unless a request was granted.
struct Asking {
    count: Arc<Mutex<usize>>,
    federation: Address<FederationMessage>,
    gate: GateReader,
    clock: Arc<dyn Clock>,
    coordinator: ShutdownCoordinator,
    /// Whether the intention stays announced although the request is refused.
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

    /// Returns the impact on the quorum, once every healthy peer has acknowledged the intention to leave or the timeout
    /// has passed.
    async fn impact(&self) -> QuorumImpact {
        let verdict = self.gate.verdict(self.clock.now());
        let until = self.clock.now() + CONFIRMATION;
        loop {
            let want = |reply| FederationMessage::Want(self.is_told, reply);
            let Ok((verdict, staying)) = self.federation.ask(DEADLINE, want).await else {
                // The federation actor does not reply. If it is only slow, its last verdict still holds, and no peer
                // has confirmed that it stays. If it hangs, the gate closes and the other members soon stop counting
                // this member.
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

    /// Retries until this member may leave, a shutdown starts for another reason, or `WISH_MAX` has passed.
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
        // Held until the intention is withdrawn, so that the next request announces it after that.
        let mut asking = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *asking -= 1;
        if *asking == 0 && self.coordinator.progress().state == ShutdownState::Running {
            // If the federation actor is restarting, it starts without an announced intention.
            let _ = self.federation.cast(FederationMessage::Stay);
        }
    }
}

async fn tell_peers(context: NodeContext, reason: String) -> Result<String, String> {
    // From here on the end of an actor is not a failure, and unresponsive actors are not restarted. If either of the
    // two actors is down, it reports nothing anyway.
    let _ = context.addresses.health.cast(HealthMessage::Shutdown(reason.clone()));
    let _ = context.addresses.recovery.cast(RecoveryMessage::Shutdown);
    let told = async {
        loop {
            let ask = |reply| FederationMessage::Leave(reason.clone(), reply);
            let unaware = context.addresses.federation.ask(DEADLINE, ask).await;
            match unaware {
                Ok(unaware) if unaware.is_empty() => return Ok("every peer that answers knows".to_owned()),
                // A federation actor that restarted meanwhile has lost the notification and receives it again.
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
    match context.addresses.consensus.ask(patience, ConsensusMessage::Leave).await {
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
    // Each supervisor kills at the actor's own deadline; this deadline only protects against a supervisor that hangs.
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
