//! Catching up as an actor.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::Clock;
use alys_cluster::federation::coordinator::MemberState;
use alys_cluster::federation::{FederationMessage, Roster};
use alys_cluster::health::HealthCheckResult;
use alys_cluster::health::message::answer;
use alys_cluster::id::NodeId;
use alys_cluster::mailbox::{Address, CallError, Mail, remind};
use alys_cluster::port::{Outbox, PeerChange};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::message::{SyncMessage, SyncWire};
use super::state::{Effect, Input, SyncState};
use crate::actors::chain::{ChainMessage, HeadReader};
use crate::actors::consensus::ConsensusMessage;
use crate::consensus::{Block, Certificate};

/// How often heights are compared.
const TICK: Duration = Duration::from_millis(100);
/// The longest an answer of another actor is waited for.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most blocks in one answer.
const BLOCKS_MAX: usize = 64;
/// The most transaction bytes in one answer, well below what an envelope may carry.
const BYTES_MAX: usize = 512 * 1024;

/// What catching up works with.
#[derive(Clone)]
pub struct SyncActor {
    /// Where it is reached.
    pub address: Address<SyncMessage>,
    /// All members.
    pub roster: Roster,
    /// Where the chain ends.
    pub head: HeadReader,
    /// Knows the peers' heights.
    pub federation: Address<FederationMessage>,
    /// Has the blocks that others miss.
    pub chain: Address<ChainMessage>,
    /// Takes the blocks that this member misses.
    pub consensus: Address<ConsensusMessage>,
    /// Takes messages to the other members.
    pub outbox: Arc<dyn Outbox<SyncWire>>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
}

impl SyncActor {
    /// The heights of the peers that are up; none while the federation actor does not answer.
    async fn peer_heights(&self) -> Vec<(NodeId, u64)> {
        let Ok(status) = self.federation.call(TICK, FederationMessage::Status).await else {
            return Vec::new();
        };
        let up = status.members.into_iter().filter(|member| member.state == MemberState::Up);
        up.filter_map(|member| Some((member.name, member.height?.0))).collect()
    }

    async fn compare(&self, state: &mut SyncState) {
        let peers = self.peer_heights().await;
        let height = self.head.head().height;
        self.apply(state.handle(self.clock.now(), Input::Tick { height, peers }));
    }

    fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Request { to, id, from } => self.outbox.send(&to, SyncWire::Request { id, from }),
                // Told again with every tick.
                Effect::PeersAt(height) => drop(self.consensus.cast(ConsensusMessage::PeersAt(height))),
            }
        }
    }

    async fn serve(&self, to: &NodeId, id: u64, from: u64) {
        let range = |reply| ChainMessage::Range { from, max: BLOCKS_MAX, max_bytes: BYTES_MAX, reply };
        match self.chain.call(DEADLINE, range).await {
            Ok(Ok(blocks)) => {
                let blocks = blocks.into_iter().map(|stored| (stored.block, stored.certificate)).collect();
                self.outbox.send(to, SyncWire::Response { id, blocks });
            }
            Ok(Err(error)) => tracing::warn!(%to, error, "blocks could not be read for a peer"),
            Err(error) => tracing::warn!(%to, %error, "blocks could not be read for a peer"),
        }
    }

    /// Hands blocks to consensus one by one; whether all were taken and there were any, or an error if consensus
    /// is not there.
    async fn adopt(&self, from: &NodeId, blocks: Vec<(Block, Certificate)>) -> Result<bool, CallError> {
        let mut useful = false;
        for decided in blocks {
            // Decided here meanwhile.
            if decided.0.height <= self.head.head().height {
                useful = true;
                continue;
            }
            let height = decided.0.height;
            let adopt = |reply| ConsensusMessage::Adopt(Box::new(decided), reply);
            match self.consensus.call(DEADLINE, adopt).await? {
                Ok(()) => useful = true,
                Err(reason) => {
                    tracing::warn!(%from, height, reason, "a peer's block was refused");
                    return Ok(false);
                }
            }
        }
        Ok(useful)
    }
}

impl Actor for SyncActor {
    type Msg = Mail<SyncMessage>;
    type State = SyncState;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<SyncState, ActorProcessingErr> {
        self.address.bind(me.clone());
        remind(&me, TICK, SyncMessage::Tick);
        let members = self.roster.members().len();
        Ok(SyncState::new(members - self.roster.required()))
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        mail: Self::Msg,
        state: &mut SyncState,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            SyncMessage::Tick => {
                remind(&me, TICK, SyncMessage::Tick);
                self.compare(state).await;
            }
            SyncMessage::Wire(from, SyncWire::Request { id, from: height }) => {
                self.serve(&from, id, height).await;
            }
            SyncMessage::Wire(from, SyncWire::Response { id, blocks }) => {
                if state.expects(&from, id) {
                    let input = match self.adopt(&from, blocks).await {
                        Ok(useful) => Input::Answered { from, id, useful },
                        Err(error) => {
                            tracing::info!(%from, %error, "blocks of a peer have to wait");
                            Input::NotTaken { from, id }
                        }
                    };
                    state.handle(self.clock.now(), input);
                    self.compare(state).await;
                }
            }
            SyncMessage::Peer(PeerChange::Down { node, .. } | PeerChange::Left { node, .. }) => {
                self.apply(state.handle(self.clock.now(), Input::Down(node)));
            }
            SyncMessage::Peer(_) => {}
            SyncMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
