//! What the runner needs of a federation: something to act upon and to look at.
//!
//! Four processes on loopback are one ([`Loopback`](crate::loopback::Loopback)). Time belongs to the
//! federation, so that one in virtual time can be another.

use std::time::Duration;

use alys_node::ops::view::{
    AttemptView, BlockView, EquivocationView, FederationView, GateView, GenesisView, ReadyView,
    ReceivedStatementView, SignatureView,
};
use thiserror::Error;

use crate::step::Action;
use crate::topology::Topology;

/// A federation that can be hurt and watched.
pub trait Federation: Send {
    /// Carries out an action. Returns once its effect was observed, not merely asked for.
    ///
    /// `topology` is what the actions before made of the federation.
    fn apply(
        &mut self,
        action: &Action,
        topology: &Topology,
    ) -> impl Future<Output = Result<Effect, ActionError>> + Send;

    /// Asks every member that can answer.
    fn observe(&mut self, depth: Depth) -> impl Future<Output = Observation> + Send;

    /// Milliseconds since the Unix epoch, by the clock the members' own times are taken from.
    fn now_ms(&self) -> u64;

    /// Lets time pass.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// How much of what members have is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What was not read before.
    News,
    /// Everything again, from the first block on.
    Everything,
}

/// What an action brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Payloads of the transactions that were accepted, hexadecimal.
    pub submitted: Vec<String>,
    /// What is to be said of it; empty if nothing is.
    pub told: String,
}

/// An action that could not be carried out, or had not the effect it must have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {expected}; saw {seen}")]
pub struct ActionError {
    /// What should have come about.
    pub expected: String,
    /// What came about instead.
    pub seen: String,
}

/// The federation at one moment.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// When it was begun: what it holds is at least that new.
    pub at_ms: u64,
    /// Every member, in genesis order.
    pub members: Vec<MemberObservation>,
}

/// One member at one moment.
#[derive(Clone, Debug)]
pub struct MemberObservation {
    /// The member's name.
    pub name: String,
    /// What was found.
    pub finding: PollResult,
}

/// What was found when a member was looked at.
#[derive(Clone, Debug)]
pub enum PollResult {
    /// It was not asked, for it is paused or down as it should be.
    Absent,
    /// It answered.
    Answer(Box<MemberReport>),
    /// It runs but did not answer; the text says how.
    Silent(String),
    /// It ended though nobody ended it; the text says how.
    Ended(String),
}

/// What one member said.
#[derive(Clone, Debug)]
pub struct MemberReport {
    /// `GET /federation/status`
    pub status: FederationView,
    /// `GET /federation/gate`
    pub gate: GateView,
    /// `GET /readyz`
    pub ready: ReadyView,
    /// `GET /genesis`, once an incarnation.
    pub genesis: Option<GenesisView>,
    /// `GET /chain/blocks/{height}`, as many as were asked for.
    pub blocks: Vec<BlockView>,
    /// `GET /consensus/signatures`, as many as were asked for.
    pub signatures: Vec<SignatureView>,
    /// `GET /consensus/received`, as many as were asked for.
    pub received: Vec<ReceivedStatementView>,
    /// `GET /consensus/evidence`, where it was asked for.
    pub evidence: Vec<EquivocationView>,
    /// `GET /supervision/memory`, where it was asked for.
    pub attempts: Vec<AttemptView>,
}
