//! Defines the envelopes sent between members, and their encoding.
//!
//! Envelopes are protocol buffers: unknown fields are ignored, so that fields can be added within a version. Unknown
//! kinds are rejected. The connection knows the sender and its incarnation, so envelopes do not repeat them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::codec::MESSAGE_BYTES_MAX;
use super::frame::{self, Kind};
use super::hello::VERSION_WATCH;
use crate::trace::{TraceContext, current_context};

/// A message to another member. Names are unchecked text as received; looking them up validates them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Content of the envelope.
    pub body: Body,
    /// Trace context of the sender.
    pub trace: TraceContext,
}

/// Content of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A message to an actor.
    Tell {
        /// Name of the recipient.
        to: Bytes,
        /// Message in the recipient's encoding.
        payload: Bytes,
    },
    /// A request to an actor, or a command: one that needs no answer has `id` 0.
    Ask {
        /// Id repeated in the answer; 0 if none is wanted.
        id: u64,
        /// Name of the recipient.
        to: Bytes,
        /// Protocol in which the request is encoded.
        protocol: Bytes,
        /// Encoded request.
        question: Bytes,
        /// How long the caller waits. Zero: unspecified.
        patience: Duration,
    },
    /// The answer to a request, or why there is none.
    Answer {
        /// Id of the request.
        id: u64,
        /// Encoded answer, or the reason why there is none.
        outcome: Result<Bytes, String>,
    },
    /// Asks for one notification when an actor stops. Answered only if the watch is refused.
    Watch {
        /// Id repeated in the notification.
        id: u64,
        /// Name of the actor to watch.
        to: Bytes,
        /// Incarnation of the actor to watch; an earlier one counts as stopped.
        incarnation: u64,
    },
    /// Cancels a watch.
    Unwatch {
        /// Id of the watch.
        id: u64,
    },
    /// A watched actor has stopped.
    Down {
        /// Id of the watch.
        id: u64,
        /// Reason why it stopped.
        reason: String,
    },
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "2")]
    to: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    payload: Bytes,
    #[prost(uint64, tag = "4")]
    id: u64,
    #[prost(bytes = "bytes", tag = "5")]
    protocol: Bytes,
    #[prost(string, tag = "6")]
    reason: String,
    #[prost(uint32, tag = "7")]
    patience_ms: u32,
    #[prost(bytes = "bytes", tag = "8")]
    trace: Bytes,
    #[prost(uint64, tag = "9")]
    incarnation: u64,
}

const TELL: u32 = 1;
const ASK: u32 = 2;
const ANSWER: u32 = 3;
const REFUSE: u32 = 4;
const WATCH: u32 = 5;
const UNWATCH: u32 = 6;
const DOWN: u32 = 7;

impl Body {
    /// First link version that supports this kind.
    pub fn version(&self) -> u32 {
        match self {
            Self::Tell { .. } | Self::Ask { .. } | Self::Answer { .. } => super::hello::VERSION_MIN,
            Self::Watch { .. } | Self::Unwatch { .. } | Self::Down { .. } => VERSION_WATCH,
        }
    }

    fn wire(self) -> Wire {
        let wire = Wire::default();
        match self {
            Self::Tell { to, payload } => Wire { kind: TELL, to, payload, ..wire },
            Self::Ask { id, to, protocol, question, patience } => {
                // Rounded up: 0 would mean unspecified.
                let patience_ms = patience.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u32::MAX);
                Wire { kind: ASK, id, to, protocol, payload: question, patience_ms, ..wire }
            }
            Self::Answer { id, outcome: Ok(payload) } => Wire { kind: ANSWER, id, payload, ..wire },
            Self::Answer { id, outcome: Err(reason) } => Wire { kind: REFUSE, id, reason, ..wire },
            Self::Watch { id, to, incarnation } => Wire { kind: WATCH, id, to, incarnation, ..wire },
            Self::Unwatch { id } => Wire { kind: UNWATCH, id, ..wire },
            Self::Down { id, reason } => Wire { kind: DOWN, id, reason, ..wire },
        }
    }

    fn of(wire: Wire) -> Result<Self, String> {
        let Wire { kind, to, payload, id, protocol, reason, patience_ms, incarnation, .. } = wire;
        Ok(match kind {
            TELL => Self::Tell { to, payload },
            ASK => {
                let patience = Duration::from_millis(patience_ms.into());
                Self::Ask { id, to, protocol, question: payload, patience }
            }
            ANSWER => Self::Answer { id, outcome: Ok(payload) },
            REFUSE => Self::Answer { id, outcome: Err(reason) },
            WATCH => Self::Watch { id, to, incarnation },
            UNWATCH => Self::Unwatch { id },
            DOWN => Self::Down { id, reason },
            other => return Err(format!("an envelope of kind {other}; expected 1 to 7")),
        })
    }
}

impl Envelope {
    /// Creates an envelope with the trace context of the current task.
    pub fn new(body: Body) -> Self {
        Self { body, trace: current_context() }
    }

    /// Encodes the frame to send; fails with the size if it exceeds the limit.
    pub fn frame(self) -> Result<Bytes, String> {
        let mut wire = self.body.wire();
        wire.trace = self.trace.to_bytes();
        let bytes = wire.encoded_len();
        if bytes > Kind::Envelope.body_max() {
            return Err(format!(
                "it has {bytes} bytes; expected at most {MESSAGE_BYTES_MAX} and its address"
            ));
        }
        let mut frame = BytesMut::with_capacity(frame::HEADER_BYTES + bytes);
        frame::put_header(Kind::Envelope, bytes, &mut frame);
        wire.encode(&mut frame).map_err(|error| error.to_string())?;
        Ok(frame.freeze())
    }

    /// Decodes the envelope in a frame body received on a connection of this version.
    pub fn decode(bytes: Bytes, version: u32) -> Result<Self, String> {
        let wire = Wire::decode(bytes).map_err(|error| format!("an envelope can not be read: {error}"))?;
        let trace = TraceContext::of_bytes(&wire.trace)?;
        let body = Body::of(wire)?;
        if body.version() > version {
            let first = body.version();
            return Err(format!("an envelope of version {first} on a connection of version {version}"));
        }
        Ok(Self { body, trace })
    }
}

/// Priority of an envelope when not all can be sent, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats: a member whose heartbeats are delayed seems dead.
    Heartbeat,
    /// Proposals and votes.
    Consensus,
    /// Requests, answers, watches.
    Request,
    /// Blocks for members that lag behind; transactions.
    Bulk,
}

/// What a full queue does with one more envelope when it holds nothing of lower priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop the oldest of the same lane: newer ones are worth more.
    DropOldest,
    /// Drop the new one without an error: receivers that need it cause it to be sent again.
    DropNewest,
    /// Refuse the new one with an error to the sender.
    Refuse,
}

impl Lane {
    /// Every lane, highest priority first.
    pub const ALL: [Self; 4] = [Self::Heartbeat, Self::Consensus, Self::Request, Self::Bulk];

    /// Name of the lane, used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Consensus => "consensus",
            Self::Request => "request",
            Self::Bulk => "bulk",
        }
    }

    /// Policy of the lane when the queue is full.
    pub fn when_full(self) -> WhenFull {
        match self {
            Self::Heartbeat | Self::Consensus => WhenFull::DropOldest,
            Self::Request => WhenFull::Refuse,
            Self::Bulk => WhenFull::DropNewest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies() -> Vec<Body> {
        let to = Bytes::from_static(b"chain");
        vec![
            Body::Tell { to: to.clone(), payload: Bytes::from_static(&[7, 8]) },
            Body::Ask {
                id: 300,
                to: to.clone(),
                protocol: Bytes::from_static(b"chain/1"),
                question: Bytes::from_static(&[1]),
                patience: Duration::from_millis(500),
            },
            Body::Answer { id: 300, outcome: Ok(Bytes::from_static(&[2])) },
            Body::Answer { id: 300, outcome: Err("no".to_owned()) },
            Body::Watch { id: 5, to, incarnation: 3 },
            Body::Unwatch { id: 5 },
            Body::Down { id: 5, reason: "it panicked".to_owned() },
        ]
    }

    fn body_of(frame: &Bytes) -> Bytes {
        frame.slice(frame::HEADER_BYTES..)
    }

    #[test]
    fn the_bytes_of_envelopes_stay_what_they_are() {
        let golden = [
            "08011205636861696e1a020708",
            "08021205636861696e1a010120ac022a07636861696e2f3138f403",
            "08031a010220ac02",
            "080420ac0232026e6f",
            "08051205636861696e20054803",
            "08062005",
            "08072005320b69742070616e69636b6564",
        ];
        for (body, golden) in bodies().into_iter().zip(golden) {
            let frame = Envelope::new(body.clone()).frame().expect("small");
            let hex = format!("{:02x?}", &body_of(&frame)[..]).replace(['[', ']', ',', ' '], "");
            assert_eq!(hex, golden, "{body:?}");
            assert_eq!(Envelope::decode(body_of(&frame), 2), Ok(Envelope::new(body)));
        }
    }

    #[test]
    fn a_trace_costs_its_25_bytes_and_a_tag_and_none_costs_nothing() {
        let body = Body::Unwatch { id: 5 };
        let none = Envelope::new(body.clone()).frame().expect("small");
        let trace = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
        let traced = Envelope { body, trace };
        let frame = traced.clone().frame().expect("small");
        assert_eq!(frame.len() - none.len(), 25 + 2);
        assert_eq!(Envelope::decode(body_of(&frame), 2), Ok(traced));
    }

    #[test]
    fn a_field_of_a_version_to_come_is_ignored_and_a_kind_of_it_is_refused() {
        let body = bodies().remove(0);
        let mut bytes = body_of(&Envelope::new(body.clone()).frame().expect("small")).to_vec();
        bytes.extend_from_slice(&[0x7a, 3, b'n', b'e', b'w']);
        assert_eq!(Envelope::decode(bytes.into(), 2), Ok(Envelope::new(body)));
        let refused = Envelope::decode(Bytes::from_static(&[0x08, 99]), 2);
        assert_eq!(refused, Err("an envelope of kind 99; expected 1 to 7".to_owned()));
    }

    #[test]
    fn what_the_agreed_version_does_not_have_is_refused() {
        let frame = Envelope::new(Body::Unwatch { id: 1 }).frame().expect("small");
        let refused = Envelope::decode(body_of(&frame), 1);
        assert_eq!(refused, Err("an envelope of version 2 on a connection of version 1".to_owned()));
    }

    #[test]
    fn a_patience_below_a_millisecond_is_not_none_and_one_of_years_is_the_longest() {
        for (patience, expected) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1), Duration::from_millis(1)),
            (Duration::from_micros(1_001), Duration::from_millis(2)),
            (Duration::MAX, Duration::from_millis(u32::MAX.into())),
        ] {
            let none = Bytes::new();
            let (to, protocol, question) = (none.clone(), none.clone(), none);
            let frame = Envelope::new(Body::Ask { id: 1, to, protocol, question, patience }).frame();
            let read = Envelope::decode(body_of(&frame.expect("small")), 2).expect("an envelope");
            let Body::Ask { patience: found, .. } = read.body else { panic!("{read:?}") };
            assert_eq!(found, expected, "{patience:?}");
        }
    }

    #[test]
    fn an_envelope_that_is_too_large_is_refused_before_it_is_sent() {
        let payload = Bytes::from(vec![0; Kind::Envelope.body_max()]);
        let envelope = Envelope::new(Body::Tell { to: Bytes::from_static(b"chain"), payload });
        let error = envelope.frame().expect_err("too large");
        assert!(error.contains("expected at most 2097152"), "{error}");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Envelope::decode(bytes.into(), 2);
        }

        #[test]
        fn damaged_envelopes_never_panic(which in 0usize..7, at in any::<usize>(), to in any::<u8>()) {
            let frame = Envelope::new(bodies().remove(which)).frame().expect("small");
            let mut bytes = body_of(&frame).to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = Envelope::decode(bytes.into(), 2);
        }
    }
}
