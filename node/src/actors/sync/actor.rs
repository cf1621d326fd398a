//! The sync actor, which catches up with the other members.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::Clock;
use alys_cluster::federation::coordinator::MemberState;
use alys_cluster::federation::{FederationMessage, Roster};
use alys_cluster::id::NodeId;
use alys_cluster::mailbox::Address;
use alys_cluster::port::{Outbox, PeerChange};
use ractor::ActorProcessingErr;

use super::message::{SyncMessage, SyncWire};
use super::state::{Effect, Input, SyncState};
use crate::actors::chain::{ChainMessage, HeadReader, Reader};
use crate::actors::consensus::ConsensusMessage;
use crate::consensus::{Block, Certificate};

/// Interval at which heights are compared.
const TICK: Duration = Duration::from_millis(100);
/// Deadline for the reply of another actor.
const DEADLINE: Duration = Duration::from_secs(5);
/// Maximum number of blocks in one response.
const BLOCKS_MAX: usize = 64;
/// Maximum number of transaction bytes in one response, well below what an envelope may carry. With less, a member
/// behind a slow link would catch up later, not sooner: for each request it needs a peer that is up, and blocks in
/// flight delay heartbeats.
const BYTES_MAX: usize = 512 * 1024;

/// The sync actor: its ports.
#[derive(Clone)]
pub struct SyncActor {
    /// All members.
    pub roster: Roster,
    /// Reads the head of the chain.
    pub head: HeadReader,
    /// Address of the federation actor, which knows the peers' heights.
    pub federation: Address<FederationMessage>,
    /// Address of the chain actor, which has the blocks that others miss.
    pub chain: Address<ChainMessage>,
    /// Address of the consensus actor, which adopts the blocks that this member misses.
    pub consensus: Address<ConsensusMessage>,
    /// Sends messages to other members.
    pub outbox: Arc<dyn Outbox<SyncWire>>,
    /// Source of time.
    pub clock: Arc<dyn Clock>,
}

impl SyncActor {
    /// Heights of the peers that are up; none if the federation actor does not reply in time.
    async fn peer_heights(&self) -> Vec<(NodeId, u64)> {
        let Ok(status) = self.federation.ask(TICK, FederationMessage::Status).await else {
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
                // Repeated with every tick, so a lost message does no harm.
                Effect::PeersAt { height, heard } => {
                    drop(self.consensus.cast(ConsensusMessage::PeersAt { height, heard }));
                }
            }
        }
    }

    async fn serve(&self, to: &NodeId, id: u64, from: u64) {
        let range = |reply| ChainMessage::Range {
            reader: Reader::Others,
            from,
            max: BLOCKS_MAX,
            max_bytes: BYTES_MAX,
            reply,
        };
        match self.chain.ask(DEADLINE, range).await {
            Ok(Ok(blocks)) => {
                let blocks = blocks.into_iter().map(|stored| (stored.block, stored.certificate)).collect();
                self.outbox.send(to, SyncWire::Response { id, blocks });
            }
            Ok(Err(error)) => tracing::warn!(%to, error, "blocks could not be read for a peer"),
            Err(error) => tracing::warn!(%to, %error, "blocks could not be read for a peer"),
        }
    }

    /// Passes the next block of a response to consensus. Each message passes one block, so that the actor handles
    /// others in between.
    async fn adopt(&self, me: &SelfRef<SyncMessage>, shell: &mut SyncActorState) {
        let Some(mut answer) = shell.adopting.take() else { return };
        let asked = answer.asked.take();
        let outcome = match answer.blocks.pop_front() {
            Some((block, _)) if asked.is_some_and(|asked| asked != block.height) => Ok(Err(format!(
                "it begins with block {}; expected {}",
                block.height,
                asked.unwrap_or_default()
            ))),
            // Decided here meanwhile.
            Some((block, _)) if block.height <= self.head.head().height => Ok(Ok(())),
            Some(decided) => {
                let adopt = |reply| ConsensusMessage::Adopt(Box::new(decided), reply);
                self.consensus.ask(DEADLINE, adopt).await
            }
            None => Ok(Err("it is empty".to_owned())),
        };
        let OfferedBlocks { from, id, blocks, .. } = &answer;
        let (from, id) = (from.clone(), *id);
        let input = match outcome {
            Ok(Ok(())) if !blocks.is_empty() => {
                shell.adopting = Some(answer);
                // If this actor has stopped, its next incarnation asks again.
                me.cast(SyncMessage::Adopt);
                return;
            }
            Ok(Ok(())) => Input::Answered { from, id, useful: true },
            Ok(Err(reason)) => {
                tracing::warn!(%from, reason, "a peer's answer was refused");
                Input::Answered { from, id, useful: false }
            }
            Err(error) => {
                tracing::info!(%from, %error, "blocks of a peer have to wait");
                Input::NotTaken { from, id }
            }
        };
        shell.sync.handle(self.clock.now(), input);
        self.compare(&mut shell.sync).await;
    }
}

/// The actor's state, and the response that is being processed.
pub struct SyncActorState {
    sync: SyncState,
    adopting: Option<OfferedBlocks>,
}

/// The unprocessed rest of a response.
struct OfferedBlocks {
    from: NodeId,
    id: u64,
    /// Height at which it must begin; `None` once its first block is processed.
    asked: Option<u64>,
    blocks: VecDeque<(Block, Certificate)>,
}

impl Actor for SyncActor {
    type Msg = SyncMessage;
    type State = SyncActorState;
    type Arguments = ();

    async fn pre_start(&self, me: SelfRef<Self::Msg>, (): ()) -> Result<SyncActorState, ActorProcessingErr> {
        me.send_after(TICK, SyncMessage::Tick);
        let members = self.roster.members().len();
        let sync = SyncState::new(members - self.roster.required());
        Ok(SyncActorState { sync, adopting: None })
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        shell: &mut SyncActorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SyncMessage::Tick => {
                me.send_after(TICK, SyncMessage::Tick);
                self.compare(&mut shell.sync).await;
            }
            SyncMessage::Wire(from, SyncWire::Request { id, from: height }) => {
                self.serve(&from, id, height).await;
            }
            SyncMessage::Wire(from, SyncWire::Response { id, blocks }) => {
                // Responses are processed one at a time, and no other is requested meanwhile.
                if let Some(asked) = shell.sync.expects(&from, id).filter(|_| shell.adopting.is_none()) {
                    shell.sync.handle(self.clock.now(), Input::Arrived { from: from.clone(), id });
                    shell.adopting =
                        Some(OfferedBlocks { from, id, asked: Some(asked), blocks: blocks.into() });
                    self.adopt(&me, shell).await;
                }
            }
            SyncMessage::Adopt => self.adopt(&me, shell).await,
            SyncMessage::Peer(PeerChange::Down { node, .. } | PeerChange::Left { node, .. }) => {
                self.apply(shell.sync.handle(self.clock.now(), Input::Down(node)));
            }
            SyncMessage::Peer(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alys_cluster::clock::{SystemClock, WallTime};
    use alys_cluster::health::PingMessage;
    use alys_cluster::id::{ActorName, Incarnation};

    use alys_cluster::supervision::spawn;

    use super::*;
    use crate::consensus::{BlockHash, StateRoot};
    use crate::keys::Signature;
    use crate::ports::Head;

    /// Time that consensus takes per block: less than any deadline, but much for 64 blocks.
    const PER_BLOCK: Duration = Duration::from_millis(400);

    /// Drops all requests: there is no peer.
    struct NoPeers;

    impl Outbox<SyncWire> for NoPeers {
        fn send(&self, _: &NodeId, _: SyncWire) {}
    }

    /// Accepts every block, slowly.
    struct Slow;

    impl Actor for Slow {
        type Msg = ConsensusMessage;
        type State = u64;
        type Arguments = ();

        async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<u64, ActorProcessingErr> {
            Ok(0)
        }

        async fn handle(
            &self,
            _: SelfRef<Self::Msg>,
            message: Self::Msg,
            taken: &mut u64,
        ) -> Result<(), ActorProcessingErr> {
            if let ConsensusMessage::Adopt(decided, reply) = message {
                tokio::time::sleep(PER_BLOCK).await;
                assert_eq!(decided.0.height, *taken + 1, "in order, and once");
                *taken += 1;
                let _ = reply.send(Ok(()));
            }
            Ok(())
        }
    }

    /// The sync actor with a request in flight.
    struct Asking(SyncActor);

    impl Actor for Asking {
        type Msg = SyncMessage;
        type State = <SyncActor as Actor>::State;
        type Arguments = ();

        async fn pre_start(&self, me: SelfRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
            let mut state = self.0.pre_start(me, ()).await?;
            let peers = vec![(name(2), 64), (name(3), 64), (name(4), 64)];
            let effects = state.sync.handle(self.0.clock.now(), Input::Tick { height: 0, peers });
            assert!(effects.contains(&Effect::Request { to: name(2), id: 1, from: 1 }), "{effects:?}");
            Ok(state)
        }

        async fn handle(
            &self,
            me: SelfRef<Self::Msg>,
            message: Self::Msg,
            state: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            self.0.handle(me, message, state).await
        }
    }

    fn name(n: u32) -> NodeId {
        NodeId::new(&format!("node-{n}")).expect("a name")
    }

    fn decided(height: u64) -> (Block, Certificate) {
        let block = Block {
            height,
            parent: BlockHash([7; 32]),
            timestamp_ms: height,
            proposer: 0,
            state_root: StateRoot::default(),
            transactions: vec![],
        };
        let hash = block.hash();
        let certificate =
            Certificate { height, round: 0, block: hash, signers: 7, signature: Signature([1; 96]) };
        (block, certificate)
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_answered_between_the_blocks_of_a_long_answer() {
        let address = |name| Address::new(ActorName::literal(name), 64);
        let consensus = Address::new(ActorName::literal("consensus"), 64);
        let sync = SyncActor {
            roster: Roster::new((1..=4).map(name).collect(), &name(1)).expect("a roster"),
            head: HeadReader::new(Head::genesis([7; 32])),
            federation: Address::new(ActorName::literal("federation"), 64),
            chain: address("chain"),
            consensus: consensus.clone(),
            outbox: Arc::new(NoPeers),
            clock: Arc::new(SystemClock::default()),
        };
        let me = Address::new(ActorName::literal("sync"), 64);
        spawn(None, &consensus, Slow, ()).await.expect("consensus starts");
        spawn(None, &me, Asking(sync), ()).await.expect("sync starts");
        let blocks = (1..=64).map(decided).collect();
        me.cast(SyncMessage::Wire(name(2), SyncWire::Response { id: 1, blocks })).expect("taken");
        for id in 0..20 {
            let ping = PingMessage {
                id,
                timestamp: WallTime(0),
                source: "a test".to_owned(),
                incarnation: Incarnation(1),
                federation_check: false,
                metadata: BTreeMap::new(),
            };
            let answered = me.ping(3 * PER_BLOCK, ping).await;
            assert!(answered.is_ok(), "ping {id}: {answered:?}");
            tokio::time::sleep(PER_BLOCK).await;
        }
    }
}
