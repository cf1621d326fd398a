//! Defines instances, which identify the processes of a member, and presences, which prove that two of them run.
//!
//! A member is identified by its key, and a key can be copied. Every process therefore draws a random [`Instance`] when
//! it starts and sends it in its hello. A peer that meets two instances of one member does not guess which is a
//! leftover: it asks the one it is linked with. A process that has ended does not answer, so a restart is never
//! mistaken for a copy. A running one answers with a [`Presence`], signed with the member's key and naming the other's
//! instance. Because that instance was drawn at the other's start, showing the signature to the other process proves
//! that the key has a second holder; nobody without the key can fake this.
//!
//! Ages are measured uptimes, not wall clock times.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::id::{Incarnation, NodeId};

/// Processes whose uptimes differ by at most this are ordered by instance alone, because messages take time in transit.
const SAME_TIME: Duration = Duration::from_secs(1);
/// Domain separation prefix of the signed statement.
const DOMAIN: &[u8] = b"alys/presence/1";

/// Identifies one process of a member: an unguessable random number drawn when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance(pub [u8; 16]);

impl Instance {
    /// Draws a new instance.
    pub fn draw() -> Self {
        Self(rand::random())
    }

    /// Parses an instance; `None` if the length is wrong.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Statement of a process that it is running while another claims to be its member, signed with the member's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Name of the member.
    pub member: NodeId,
    /// Instance of the process that makes the statement.
    pub instance: Instance,
    /// Instance of the other process.
    pub beside: Instance,
    /// Incarnation of the process that makes the statement.
    pub incarnation: Incarnation,
    /// Uptime of the process that makes the statement.
    pub uptime: Duration,
    /// The member's signature over [`Presence::statement`].
    pub signature: Vec<u8>,
}

impl Presence {
    /// Encodes the signed statement.
    pub fn statement(&self, federation: &[u8; 32]) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        bytes.extend(federation);
        bytes.extend((self.member.as_str().len() as u64).to_be_bytes());
        bytes.extend(self.member.as_str().as_bytes());
        bytes.extend(self.instance.0);
        bytes.extend(self.beside.0);
        bytes.extend(self.incarnation.0.to_be_bytes());
        bytes.extend(millis(self.uptime).to_be_bytes());
        bytes
    }

    /// Whether this process was started after `other`. Both processes come to the same result.
    pub fn is_younger_than(&self, other: &Self) -> bool {
        if self.uptime.abs_diff(other.uptime) > SAME_TIME {
            self.uptime < other.uptime
        } else {
            self.instance > other.instance
        }
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, incarnation) = (self.uptime.as_secs(), self.incarnation);
        write!(f, "process {} of incarnation {incarnation}, which has run for {secs} s", self.instance)
    }
}

/// Converts a duration to the milliseconds that are signed and sent.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Content of an identity frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Asks a linked process whether it is running while another process, with this instance, claims to be its member.
    Question(Instance),
    /// Statement that the sender's or another process is running.
    Presence(Presence),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bytes = "bytes", tag = "1")]
    beside: Bytes,
    /// Empty in a question, like all fields below.
    #[prost(string, tag = "2")]
    member: String,
    #[prost(bytes = "bytes", tag = "3")]
    instance: Bytes,
    #[prost(uint64, tag = "4")]
    incarnation: u64,
    #[prost(uint64, tag = "5")]
    uptime_ms: u64,
    #[prost(bytes = "bytes", tag = "6")]
    signature: Bytes,
}

impl Identity {
    /// Encodes an identity frame.
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Question(beside) => Wire { beside: Bytes::copy_from_slice(&beside.0), ..Wire::default() },
            Self::Presence(presence) => Wire {
                beside: Bytes::copy_from_slice(&presence.beside.0),
                member: presence.member.to_string(),
                instance: Bytes::copy_from_slice(&presence.instance.0),
                incarnation: presence.incarnation.0,
                uptime_ms: millis(presence.uptime),
                signature: Bytes::copy_from_slice(&presence.signature),
            },
        };
        wire.encode_to_vec()
    }

    /// Decodes an identity frame, or returns what is wrong with it.
    pub fn decode(bytes: Bytes) -> Result<Self, String> {
        let wire = Wire::decode(bytes).map_err(|error| format!("its identity can not be read: {error}"))?;
        let instance = |bytes: &Bytes| {
            let wrong = || format!("it names a process in {} bytes; expected 16", bytes.len());
            Instance::read(bytes).ok_or_else(wrong)
        };
        let beside = instance(&wire.beside)?;
        if wire.member.is_empty() {
            return Ok(Self::Question(beside));
        }
        Ok(Self::Presence(Presence {
            member: NodeId::new(&wire.member).map_err(|error| format!("its identity has {error}"))?,
            instance: instance(&wire.instance)?,
            beside,
            incarnation: Incarnation(wire.incarnation),
            uptime: Duration::from_millis(wire.uptime_ms),
            signature: wire.signature.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn presence(tag: u8, uptime_ms: u64) -> Presence {
        Presence {
            member: NodeId::new("node-4").expect("a name"),
            instance: Instance([tag; 16]),
            beside: Instance([9; 16]),
            incarnation: Incarnation(7),
            uptime: Duration::from_millis(uptime_ms),
            signature: vec![1; 96],
        }
    }

    #[test]
    fn exactly_one_of_two_is_the_younger_however_late_each_was_asked() {
        for (one, two, expected) in [
            (presence(1, 60_000), presence(2, 2_000), false),
            (presence(2, 60_000), presence(1, 2_000), false),
            (presence(1, 2_000), presence(2, 60_000), true),
            // Started together: the instances decide, whatever the transit delay.
            (presence(1, 2_000), presence(2, 2_300), false),
            (presence(1, 2_300), presence(2, 2_000), false),
            (presence(2, 2_300), presence(1, 2_000), true),
        ] {
            assert_eq!(one.is_younger_than(&two), expected, "{one} and {two}");
            assert_eq!(two.is_younger_than(&one), !expected, "{two} and {one}");
        }
    }

    #[test]
    fn what_is_said_comes_out_as_it_went_in_and_fits_into_a_frame() {
        let longest = NodeId::new(&"n".repeat(crate::id::NAME_BYTES_MAX)).expect("a name");
        let presence = Presence { member: longest, signature: vec![7; 128], ..presence(3, u64::MAX) };
        for identity in [Identity::Question(Instance([5; 16])), Identity::Presence(presence)] {
            let bytes = identity.encode();
            assert!(bytes.len() <= crate::transport::frame::Kind::Identity.body_max(), "{}", bytes.len());
            assert_eq!(Identity::decode(bytes.into()), Ok(identity));
        }
    }

    #[test]
    fn every_field_is_signed() {
        let one = presence(1, 2_000);
        let statement = |presence: &Presence| presence.statement(&[3; 32]);
        for other in [
            Presence { member: NodeId::new("node-3").expect("a name"), ..one.clone() },
            Presence { instance: Instance([2; 16]), ..one.clone() },
            Presence { beside: Instance([2; 16]), ..one.clone() },
            Presence { incarnation: Incarnation(8), ..one.clone() },
            Presence { uptime: Duration::from_millis(2_001), ..one.clone() },
        ] {
            assert_ne!(statement(&one), statement(&other), "{other:?}");
        }
        assert_ne!(one.statement(&[3; 32]), one.statement(&[4; 32]));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Identity::decode(bytes.into());
        }
    }
}
