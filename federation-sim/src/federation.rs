//! The interface of a federation to the runner: apply actions and observe.
//!
//! [`Loopback`](crate::loopback::Loopback) implements it with processes on loopback. Time is part of the interface, so
//! that another implementation can use virtual time.

use std::time::Duration;

use alys_node::ops::view::{
    AttemptView, BlockView, EquivocationView, FederationView, GateView, GenesisView, ReadyView,
    ReceivedStatementView, SignatureView,
};
use thiserror::Error;

use crate::step::Action;
use crate::topology::Topology;

/// A federation that accepts actions and can be observed.
pub trait Federation: Send {
    /// Carries out an action. Returns once its effect was observed, not merely requested.
    ///
    /// `topology` is the state that the actions before lead to.
    fn apply(
        &mut self,
        action: &Action,
        topology: &Topology,
    ) -> impl Future<Output = Result<Effect, ActionError>> + Send;

    /// Polls every member that can answer.
    fn observe(&mut self, depth: Depth) -> impl Future<Output = Observation> + Send;

    /// Current time by the clock the members' timestamps are taken from, milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Waits for `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// Amount of the members' data to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only data that was not read before.
    News,
    /// All data again, from the first block on.
    Everything,
}

/// Result of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Payloads of accepted transactions, hexadecimal.
    pub submitted: Vec<String>,
    /// Message to show; empty if there is none.
    pub told: String,
}

/// An action that could not be carried out, or did not have the required effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {expected}; saw {seen}")]
pub struct ActionError {
    /// Expected effect.
    pub expected: String,
    /// Observed effect.
    pub seen: String,
}

/// State of the federation at one time.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Time the observation started, milliseconds since the Unix epoch; its data is at least this recent.
    pub at_ms: u64,
    /// Every member, in genesis order.
    pub members: Vec<MemberObservation>,
}

/// State of one member at one time.
#[derive(Clone, Debug)]
pub struct MemberObservation {
    /// Name of the member.
    pub name: String,
    /// Result of polling it.
    pub finding: PollResult,
}

/// Result of polling a member.
#[derive(Clone, Debug)]
pub enum PollResult {
    /// Not polled, because it is paused or down as intended.
    Absent,
    /// It answered.
    Answer(Box<MemberReport>),
    /// It runs but did not answer; the text is the reason.
    Silent(String),
    /// Its process ended unexpectedly; the text is the exit status.
    Ended(String),
}

/// All answers of one member to one poll.
#[derive(Clone, Debug)]
pub struct MemberReport {
    /// `GET /federation/status`
    pub status: FederationView,
    /// `GET /federation/gate`
    pub gate: GateView,
    /// `GET /readyz`
    pub ready: ReadyView,
    /// `GET /genesis`, read once per incarnation.
    pub genesis: Option<GenesisView>,
    /// `GET /chain/blocks/{height}`, for every requested height.
    pub blocks: Vec<BlockView>,
    /// `GET /consensus/signatures`, from the requested height on.
    pub signatures: Vec<SignatureView>,
    /// `GET /consensus/received`, from the requested height on.
    pub received: Vec<ReceivedStatementView>,
    /// `GET /consensus/evidence`; empty if not requested.
    pub evidence: Vec<EquivocationView>,
    /// `GET /supervision/memory`; empty if not requested.
    pub attempts: Vec<AttemptView>,
}
