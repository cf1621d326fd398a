//! Fuzzes the decoders: they must reject invalid input, leave no bytes unread, and read back what they wrote.
//!
//! Inputs are damaged examples of everything that is sent or stored. The short form runs with the other tests; the long
//! one runs for `ALYS_FUZZ_SECONDS` and prints the number of inputs:
//!
//! ```text
//!   ALYS_FUZZ_SECONDS=300 cargo test --workspace --test suite -- --ignored fuzz --nocapture
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use alys_cluster::clock::WallTime;
use alys_cluster::discovery::DiscoveryWire;
use alys_cluster::discovery::advert::{Actors, Advert, Advertised};
use alys_cluster::federation::FederationWire;
use alys_cluster::federation::attestation::{ActorState, Attestation, Echo, SignedAttestation};
use alys_cluster::health::{HealthCheckResult, HealthStatus, PingMessage, PongMessage};
use alys_cluster::id::{ActorName, ActorPriority, ActorType, BlockHeight, Incarnation, NodeId, Tag};
use alys_cluster::registry::ActorLifecycleState;
use alys_cluster::trace::TraceContext;
use alys_cluster::transport::Lane;
use alys_cluster::transport::codec::{self, CodecError};
use alys_cluster::transport::envelope::{Body, Envelope};
use alys_cluster::transport::frame::{self, Frame, HEADER_BYTES, Kind};
use alys_cluster::transport::hello::{Hello, VERSION, VERSION_MIN};
use alys_cluster::transport::statistics::Count;
use alys_node::actors::engine::EngineWire;
use alys_node::actors::sync::SyncWire;
use alys_node::consensus::context::{BlockProposal, BlockVote, ConsensusHeight, MemberIndex};
use alys_node::consensus::message::{ConsensusWire, LogEntry};
use alys_node::consensus::{Block, BlockHash, Certificate, StateRoot};
use alys_node::discovery::{ChainAnswer, ChainQuestion, GateAnswer};
use alys_node::keys::Signature;
use alys_tests::federation::{Federation, SOON, name};
use alys_tests::{eventually, seen};
use bytes::BytesMut;
use malachite_types::{NilOrVal, Round, RoundCertificateType, VoteType};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::Decoder as _;

/// Runs a decoder on one input; returns whether it was accepted.
type Target = fn(&[u8]) -> bool;

/// A decoder, and the examples its inputs are made of.
struct Subject {
    name: &'static str,
    decode: Target,
    corpus: Vec<Vec<u8>>,
}

/// Decodes a value; an accepted value must survive a round trip, and canonical bytes must be reproduced exactly.
fn value<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = codec::decode::<T>(bytes) else {
        assert!(codec::decode_canonical::<T>(bytes).is_err(), "read only where it must be canonical");
        return false;
    };
    let written = codec::encode(&value).expect("what was read is written");
    assert!(written.len() <= bytes.len(), "the shortest form is the one that is written");
    assert_eq!(codec::decode::<T>(&written).expect("what was written is read"), value);
    assert_eq!(codec::decode_canonical::<T>(bytes).is_ok(), written == bytes);
    true
}

fn frames(bytes: &[u8]) -> bool {
    let (mut lengths, mut left) = (frame::lengths(Kind::Envelope), BytesMut::from(bytes));
    let mut read = 0;
    while let Ok(Some(bytes)) = lengths.decode(&mut left) {
        let Ok(Frame { kind, body }) = Frame::parse(bytes) else { return false };
        assert!(body.len() <= kind.body_max());
        read += HEADER_BYTES + body.len();
    }
    assert!(read <= bytes.len());
    read == bytes.len()
}

fn hello(bytes: &[u8]) -> bool {
    let Ok(hello) = Hello::decode(bytes.to_vec().into()) else { return false };
    let again = Hello::decode(hello.encode().into());
    assert_eq!(again, Ok(hello));
    true
}

fn envelope(bytes: &[u8]) -> bool {
    let versions = (VERSION_MIN..=VERSION).filter(|version| {
        let Ok(envelope) = Envelope::decode(bytes.to_vec().into(), *version) else { return false };
        assert!(envelope.body.version() <= *version);
        let frame = envelope.clone().frame().expect("what came in a message fits into one");
        assert_eq!(Envelope::decode(frame.slice(HEADER_BYTES..), *version), Ok(envelope));
        true
    });
    versions.count() > 0
}

fn subject<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    name: &'static str,
    examples: &[T],
) -> Subject {
    let corpus = examples.iter().map(|example| codec::encode(example).expect("an example"));
    Subject { name, decode: value::<T>, corpus: corpus.collect() }
}

fn block() -> Block {
    Block {
        height: 9,
        parent: BlockHash([3; 32]),
        timestamp_ms: 1_700_000_000_000,
        proposer: 2,
        state_root: StateRoot([4; 32]),
        transactions: vec![vec![1, 2, 3], vec![0; 300], vec![]],
    }
}

fn certificate() -> Certificate {
    Certificate { height: 9, round: 1, block: block().hash(), signers: 0b1011, signature: Signature([5; 96]) }
}

fn statement() -> SignedAttestation {
    let attestation = Attestation {
        version: 1,
        member: name("node-1"),
        incarnation: Incarnation(3),
        sequence: 300,
        at: WallTime(1_700_000_000_000),
        height: BlockHeight(9),
        status: HealthStatus::Degraded,
        reason: "slow".to_owned(),
        actors: vec![ActorState { name: ActorName::literal("chain"), status: HealthStatus::Healthy }],
        echoes: vec![Echo { member: name("node-2"), incarnation: Incarnation(1), sequence: 7 }],
    };
    SignedAttestation { attestation, signature: vec![6; 96] }
}

fn discovery_wires() -> Vec<DiscoveryWire> {
    let actor = |name| Advertised {
        name: ActorName::literal(name),
        actor_type: ActorType::new("Worker").expect("a type"),
        tags: [Tag::literal("a"), Tag::literal("b")].into(),
        priority: ActorPriority::High,
        state: ActorLifecycleState::Active,
        health: HealthStatus::Healthy,
        incarnation: Incarnation(2),
        for_ms: 5_000,
        failures: 1,
        protocol: "chain/1".to_owned(),
    };
    let actors = Actors(vec![actor("chain"), actor("link/node-2")]);
    let advert = Advert { incarnation: Incarnation(4), version: 70_000, actors };
    vec![DiscoveryWire::Ask, DiscoveryWire::Advert(advert)]
}

fn federation_wires() -> Vec<FederationWire> {
    let metadata: BTreeMap<_, _> = [("k".to_owned(), "v".to_owned()), ("l".to_owned(), String::new())].into();
    let ping = PingMessage {
        id: 5,
        timestamp: WallTime(1_700_000_000_000),
        source: "node-1".to_owned(),
        incarnation: Incarnation(3),
        federation_check: true,
        metadata: metadata.clone(),
    };
    let pong = PongMessage {
        ping_id: 5,
        timestamp: WallTime(1_700_000_000_001),
        source: "node-2".to_owned(),
        incarnation: Incarnation(1),
        status: HealthCheckResult::healthy(),
        metadata,
    };
    vec![
        FederationWire::Ping(ping),
        FederationWire::Pong(pong),
        FederationWire::Probe { target: name("node-3"), asker: Box::new(statement()) },
        FederationWire::Attest { to: name("node-3"), statement: Box::new(statement()) },
    ]
}

fn consensus_wires() -> Vec<ConsensusWire> {
    let (height, round, signature) = (ConsensusHeight(9), Round::new(1), Signature([7; 96]));
    let vote = |block| BlockVote { height, round, kind: VoteType::Precommit, block, voter: MemberIndex(3) };
    let proposal =
        BlockProposal { height, round, block: block(), pol_round: Round::Nil, proposer: MemberIndex(1) };
    let hash = block().hash();
    vec![
        ConsensusWire::Vote(vote(NilOrVal::Nil), signature),
        ConsensusWire::Vote(vote(NilOrVal::Val(hash)), signature),
        ConsensusWire::Proposal(proposal, signature),
        ConsensusWire::Polka { height, round, block: hash, signatures: vec![(MemberIndex(0), signature); 3] },
        ConsensusWire::Round {
            height,
            round,
            kind: RoundCertificateType::Precommit,
            signatures: vec![(VoteType::Prevote, NilOrVal::Val(hash), MemberIndex(2), signature)],
        },
    ]
}

fn sync_wires() -> Vec<SyncWire> {
    let blocks = vec![(block(), certificate()); 2];
    vec![SyncWire::Request { id: 5, from: 9 }, SyncWire::Response { id: 5, blocks }]
}

fn envelopes() -> Vec<Vec<u8>> {
    let payload = codec::encode(&sync_wires()).expect("an example");
    let bodies = [
        Body::Tell { to: "sync".into(), payload: payload.into() },
        Body::Ask {
            id: 300,
            to: "chain".into(),
            protocol: "chain/1".into(),
            question: vec![0, 9].into(),
            patience: Duration::from_millis(500),
        },
        Body::Answer { id: 300, outcome: Ok(vec![2; 40].into()) },
        Body::Answer { id: 300, outcome: Err("no".to_owned()) },
        Body::Watch { id: 5, to: "chain".into(), incarnation: 3 },
        Body::Unwatch { id: 5 },
        Body::Down { id: 5, reason: "it panicked".to_owned() },
    ];
    let trace = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
    let traced = bodies.clone().map(|body| Envelope { body, trace });
    let frame = |envelope: Envelope| envelope.frame().expect("an example").to_vec();
    bodies.map(Envelope::new).into_iter().chain(traced).map(frame).collect()
}

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(subjects);

fn subjects() -> Vec<Subject> {
    let hellos: Vec<_> = [("node-1", 1), ("a-much-longer-name-of-a-member", VERSION)]
        .map(|(node, version)| Hello::new(name(node), Incarnation(7), [9; 32], version).encode())
        .into();
    let mut streams = envelopes();
    let all = streams.concat();
    let mut greeting = ((hellos[0].len() + 1) as u32).to_be_bytes().to_vec();
    greeting.push(Kind::Hello as u8);
    greeting.extend(&hellos[0]);
    streams.extend([[greeting.clone(), all.clone()].concat(), all, greeting, vec![0, 0, 0, 2, 3, 1]]);
    let bodies = envelopes().into_iter().map(|frame| frame[HEADER_BYTES..].to_vec()).collect();
    let logged: Vec<_> = consensus_wires().into_iter().map(LogEntry::Message).collect();
    let gate = GateAnswer { open: true, healthy: 4, required: 3, reason: "4 of 4".to_owned() };
    let found = ChainAnswer::Block(Some(Box::new((block(), certificate()))));
    vec![
        Subject { name: "frames", decode: frames, corpus: streams },
        Subject { name: "hello", decode: hello, corpus: hellos },
        Subject { name: "envelope", decode: envelope, corpus: bodies },
        subject("discovery", &discovery_wires()),
        subject("federation", &federation_wires()),
        subject("consensus", &consensus_wires()),
        subject("sync", &sync_wires()),
        subject("engine", &[EngineWire::Transaction(vec![1; 70]), EngineWire::Transaction(vec![])]),
        subject("consensus log", &logged),
        subject("chain question", &[ChainQuestion::Block(9), ChainQuestion::Block(u64::MAX)]),
        subject("chain answer", &[ChainAnswer::Block(None), found]),
        subject("gate answer", &[gate]),
    ]
}

/// Deterministic pseudo-random numbers (Knuth's linear congruential generator).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    /// A byte; more often than not one at which encodings change their meaning.
    fn byte(&mut self) -> u8 {
        const ODD: [u8; 12] = [0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, 0x0a, 0x32];
        if self.below(2) == 0 { ODD[self.below(ODD.len())] } else { self.below(256) as u8 }
    }
}

/// An example, or parts of several, damaged in up to eight places.
fn damaged(chance: &mut Chance, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[chance.below(corpus.len())].clone();
    for _ in 0..chance.below(8) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, chance.byte()),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            4 => {
                let other = &corpus[chance.below(corpus.len())];
                let from = chance.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            5 => {
                let end = (at + chance.below(16)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.extend(piece);
            }
            _ if at < bytes.len() => bytes[at] = chance.byte(),
            _ => bytes.push(chance.byte()),
        }
    }
    bytes
}

#[test]
fn every_example_is_read_and_written_back() {
    for Subject { name, decode, corpus } in subjects() {
        for example in corpus {
            assert!(decode(&example), "{name}: {example:02x?}");
        }
    }
}

#[test]
fn bytes_left_over_are_refused_and_every_longer_way_to_write_a_value_is_not_canonical() {
    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(examples: &[T]) {
        for example in examples {
            let bytes = codec::encode(example).expect("an example");
            let longer = [&bytes[..], &[0]].concat();
            assert!(matches!(codec::decode::<T>(&longer), Err(CodecError::Trailing { .. })), "{example:?}");
            // A number below 251 is encoded as one byte; it could also be written as three.
            let ways = (0..bytes.len()).filter(|at| {
                let way = [&bytes[..*at], &[0xfb, bytes[*at], 0], &bytes[at + 1..]].concat();
                let is_read = codec::decode::<T>(&way).is_ok_and(|value| value == *example);
                let refused = codec::decode_canonical::<T>(&way);
                assert!(refused.is_err(), "{example:?} at {at}");
                is_read && matches!(refused, Err(CodecError::NotCanonical))
            });
            assert!(ways.count() > 0, "{example:?} has a number that can be written longer");
        }
    }
    check(&federation_wires());
    check(&consensus_wires());
    check(&sync_wires());
    check(&[EngineWire::Transaction(vec![1; 70])]);
    check(&[block()]);
    check(&[statement()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_input_is_read_or_refused(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for subject in SUBJECTS.iter() {
            (subject.decode)(&damaged(&mut chance, &subject.corpus));
        }
    }

    #[test]
    fn random_input_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for subject in SUBJECTS.iter() {
            (subject.decode)(&bytes);
        }
    }
}

#[test]
#[ignore = "runs for as long as ALYS_FUZZ_SECONDS says"]
fn fuzz_for_as_long_as_it_is_told() {
    let seconds = std::env::var("ALYS_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let seed = std::env::var("ALYS_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (begun, subjects) = (Instant::now(), subjects());
    let mut chance = Chance(seed);
    let mut executions: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        for subject in &subjects {
            for _ in 0..200 {
                let before = chance.0;
                let bytes = damaged(&mut chance, &subject.corpus);
                let outcome = std::panic::catch_unwind(|| (subject.decode)(&bytes));
                let is_read = outcome.unwrap_or_else(|_| panic!("{} at seed {before}", subject.name));
                let (runs, read) = executions.entry(subject.name).or_default();
                *runs += 1;
                *read += u64::from(is_read);
            }
        }
    }
    let total: u64 = executions.values().map(|(runs, _)| runs).sum();
    println!("{total} executions in {:?}, seed {seed}", begun.elapsed());
    for (name, (runs, read)) in executions {
        println!("{name:>16} {runs:>12} executions, {read:>12} read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_refuses_what_is_hashed_or_signed_when_it_is_not_written_in_the_one_way() {
    fn longer<T: Serialize>(wire: &T) -> Vec<u8> {
        let bytes = codec::encode(wire).expect("an example");
        // The variant's index, in three bytes instead of one.
        [&[0xfb, bytes[0], 0][..], &bytes[1..]].concat()
    }
    let federation = Federation::start("canonical", |_| {}).await;
    let (from, to) = (&federation.members[0], &federation.members[1]);
    let line =
        |of: &alys_tests::federation::Member, peer: &NodeId| of.node().context().channels[peer].clone();
    let refused = || line(to, &from.name).counters().get(Count::EnvelopesRefused);
    for (actor, payload) in [
        ("federation", longer(&federation_wires()[3])),
        ("consensus", longer(&consensus_wires()[2])),
        ("sync", longer(&sync_wires()[1])),
        ("engine", longer(&EngineWire::Transaction(vec![1, 2]))),
    ] {
        let before = refused();
        let tell = Envelope::new(Body::Tell { to: actor.into(), payload: payload.into() });
        line(from, &to.name).send(Lane::Request, tell).expect("sent");
        eventually(SOON, &format!("{actor} refuses it"), async || {
            let now = refused();
            seen(now == before + 1, format!("{now} after {before}"))
        })
        .await;
    }
    federation.stop().await;
}
