//! Fixtures of the benches: keys and a certificate of a federation, a failure detector with a history, an echo actor.
//! Run with `cargo bench -p alys-benches`; results are ratios within one run, not absolute times.

pub mod health;
pub mod link;
pub mod registry;
pub mod report;
pub mod supervision;

use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::Moment;
use alys_cluster::federation::GateInputs;
use alys_cluster::federation::decision::{Evaluation, Gates, MemberFacts, MemberState};
use alys_cluster::health::accrual::AccrualConfig;
use alys_cluster::health::{HealthStatus, PhiAccrual};
use alys_cluster::id::NodeId;
use alys_node::consensus::certificate::precommit_bytes;
use alys_node::consensus::context::MemberIndex;
use alys_node::consensus::{BlockHash, Certificate};
use alys_node::genesis::{Genesis, GenesisFile, GenesisMember};
use alys_node::keys::SecretKey;
use ractor::{ActorProcessingErr, ActorRef, RpcReplyPort};

/// Secret key of member `index`.
pub fn secret(index: u8) -> SecretKey {
    SecretKey::from_seed(&[index + 1; 32])
}

/// Genesis of four members.
pub fn genesis() -> Genesis {
    let members = (0..4).map(|index| GenesisMember {
        name: NodeId::new(&format!("node-{}", index + 1)).expect("a name"),
        public_key: secret(index).public_key().to_string(),
        proof_of_possession: secret(index).prove_possession(),
    });
    let (chain_id, block_time) = ("bench".to_owned(), Duration::from_secs(2));
    Genesis::check(&GenesisFile { chain_id, block_time, members: members.collect() }).expect("it holds")
}

/// Certificate signed by the first three members.
pub fn certificate(genesis: &Genesis) -> Certificate {
    let block = BlockHash([7; 32]);
    let message = precommit_bytes(genesis.chain_id(), 9, 0, &block.0);
    let precommits: Vec<_> = (0..3).map(|i| (MemberIndex(i), secret(i).sign(&message))).collect();
    Certificate::aggregate(9, 0, block, &precommits).expect("valid points")
}

/// Failure detector that has received a hundred heartbeats.
pub fn detector() -> PhiAccrual {
    let mut detector = PhiAccrual::new(AccrualConfig {
        expected_interval: Duration::from_millis(250),
        acceptable_pause: Duration::from_millis(500),
        min_std_deviation: Duration::from_millis(50),
        window: 100,
    });
    (0..100).for_each(|n| detector.heartbeat(Moment::at(Duration::from_millis(n * 250))));
    detector
}

/// Gate inputs of four members, one of which is down.
pub fn gate_inputs() -> GateInputs {
    let member = |n: usize| MemberFacts {
        name: NodeId::new(&format!("node-{n}")).expect("a name"),
        state: if n == 4 { MemberState::Down } else { MemberState::Up },
        status: HealthStatus::Healthy,
        silent_ms: Some(100),
        phi_thousandths: 12,
        reason: if n == 4 { "silent for 1010 ms (phi 8.2)".to_owned() } else { String::new() },
    };
    let gates = Gates::new(3, 2, |_| 3);
    let evaluation = Evaluation::Round;
    GateInputs { evaluation, members: (1..=4).map(member).collect(), ..GateInputs::unknown(gates) }
}

/// Message to the echo actors.
pub enum Echo {
    /// Replies with the number.
    Back(u64, RpcReplyPort<u64>),
}

impl ractor::Message for Echo {}

/// Echo actor with a bounded mailbox.
pub struct Bounded;

impl Actor for Bounded {
    type Msg = Echo;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: SelfRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Echo::Back(n, reply) = message;
        Ok(reply.send(n)?)
    }
}

/// Echo actor with ractor's own mailbox, as the baseline.
pub struct Bare;

impl ractor::Actor for Bare {
    type Msg = Echo;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Echo>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Echo>, message: Echo, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let Echo::Back(n, reply) = message;
        Ok(reply.send(n)?)
    }
}
