//! Defines the first frame of each side: who it is, and which versions of the link it speaks.
//!
//! Both use the greatest version that both speak, so that members can be upgraded one at a time. Within a version,
//! fields may be added: receivers ignore unknown ones.
//!
//! | version | envelopes |
//! | --- | --- |
//! | 1 | tell, ask, answer |
//! | 2 | also watch, unwatch, down |

use bytes::Bytes;
use prost::Message as _;

use super::presence::Instance;
use crate::id::{Incarnation, NodeId};

/// Oldest supported version.
pub const VERSION_MIN: u32 = 1;
/// Newest supported version.
pub const VERSION: u32 = 2;
/// First version that supports watches.
pub const VERSION_WATCH: u32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    version_min: u32,
    #[prost(uint32, tag = "2")]
    version_max: u32,
    #[prost(string, tag = "3")]
    node: String,
    #[prost(uint64, tag = "4")]
    incarnation: u64,
    #[prost(bytes = "bytes", tag = "5")]
    federation: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    instance: Bytes,
}

/// First frame of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version the sender speaks.
    pub version_min: u32,
    /// Newest version the sender speaks.
    pub version_max: u32,
    /// Name of the sender.
    pub node: NodeId,
    /// Incarnation of the sender.
    pub incarnation: Incarnation,
    /// Federation of the sender: the hash of its genesis.
    pub federation: [u8; 32],
    /// Instance of the sending process, if it states one.
    pub instance: Option<Instance>,
}

/// Identity of the peer at the other end of a connection, and the agreed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Name of the peer.
    pub peer: NodeId,
    /// Incarnation of the peer.
    pub incarnation: Incarnation,
    /// Version agreed with the peer.
    pub version: u32,
    /// Instance of the peer's process, if it states one.
    pub instance: Option<Instance>,
}

fn bytes_of(instance: Option<Instance>) -> Bytes {
    instance.map(|instance| Bytes::copy_from_slice(&instance.0)).unwrap_or_default()
}

impl Hello {
    /// Creates the hello of `node`, which speaks every version from [`VERSION_MIN`] to `version_max`.
    pub fn new(node: NodeId, incarnation: Incarnation, federation: [u8; 32], version_max: u32) -> Self {
        let (version_min, instance) = (VERSION_MIN, None);
        Self { version_min, version_max, node, incarnation, federation, instance }
    }

    /// Encodes the hello.
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            version_min: self.version_min,
            version_max: self.version_max,
            node: self.node.to_string(),
            incarnation: self.incarnation.0,
            federation: Bytes::copy_from_slice(&self.federation),
            instance: bytes_of(self.instance),
        };
        wire.encode_to_vec()
    }

    /// Decodes a hello, or returns what is wrong with it.
    pub fn decode(bytes: Bytes) -> Result<Self, String> {
        let wire = Wire::decode(bytes).map_err(|error| format!("its greeting can not be read: {error}"))?;
        let node = NodeId::new(&wire.node).map_err(|error| format!("it greets with {error}"))?;
        let length = wire.federation.len();
        let federation = wire.federation[..]
            .try_into()
            .map_err(|_| format!("it names its federation in {length} bytes; expected 32"))?;
        let Wire { version_min, version_max, incarnation, .. } = wire;
        // An instance of another length is treated as absent.
        let instance = Instance::read(&wire.instance);
        let incarnation = Incarnation(incarnation);
        Ok(Self { version_min, version_max, node, incarnation, federation, instance })
    }

    /// Checks the hello of the remote end; `proven` is the member its certificate belongs to.
    pub fn meet(&self, theirs: &Self, proven: Option<&NodeId>) -> Result<PeerInfo, String> {
        if theirs.federation != self.federation {
            return Err("it belongs to another federation".to_owned());
        }
        if let Some(proven) = proven
            && *proven != theirs.node
        {
            return Err(format!("it says it is {}; its certificate is {proven}'s", theirs.node));
        }
        let version = self.version_max.min(theirs.version_max);
        if version < self.version_min.max(theirs.version_min) {
            return Err(format!(
                "it speaks versions {} to {} of the link; expected one of {} to {}",
                theirs.version_min, theirs.version_max, self.version_min, self.version_max
            ));
        }
        Ok(PeerInfo {
            peer: theirs.node.clone(),
            incarnation: theirs.incarnation,
            version,
            instance: theirs.instance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(node: &str, version_min: u32, version_max: u32) -> Hello {
        let node = NodeId::new(node).expect("a name");
        Hello { version_min, ..Hello::new(node, Incarnation(7), [9; 32], version_max) }
    }

    #[test]
    fn the_bytes_of_a_greeting_stay_what_they_are_and_unknown_fields_are_ignored() {
        let hello = hello("node-1", 1, 2);
        let mut bytes = hello.encode();
        let golden = "080110021a066e6f64652d3120072a20".to_owned() + &"09".repeat(32);
        let hex = format!("{bytes:02x?}").replace(['[', ']', ',', ' '], "");
        assert_eq!(hex, golden);
        // Field 15, a string, from a future version.
        bytes.extend_from_slice(&[0x7a, 3, b'n', b'e', b'w']);
        assert_eq!(Hello::decode(bytes.into()), Ok(hello));
    }

    #[test]
    fn a_greeting_that_names_its_process_comes_out_as_it_went_in_and_fits_into_a_frame() {
        let longest = "n".repeat(crate::id::NAME_BYTES_MAX);
        let hello = Hello { instance: Some(Instance([1; 16])), ..hello(&longest, 1, 2) };
        let bytes = hello.encode();
        assert!(bytes.len() <= crate::transport::frame::Kind::Hello.body_max(), "{}", bytes.len());
        assert_eq!(Hello::decode(bytes.into()), Ok(hello));
    }

    #[test]
    fn members_agree_on_the_greatest_version_that_both_speak() {
        let own = hello("node-1", 1, 2);
        for ((min, max), expected) in [
            ((1, 1), Ok(1)),
            ((1, 2), Ok(2)),
            ((2, 5), Ok(2)),
            ((3, 5), Err("it speaks versions 3 to 5 of the link; expected one of 1 to 2".to_owned())),
            ((0, 0), Err("it speaks versions 0 to 0 of the link; expected one of 1 to 2".to_owned())),
        ] {
            let info = own.meet(&hello("node-2", min, max), None);
            assert_eq!(info.map(|info| info.version), expected, "{min} to {max}");
        }
    }

    #[test]
    fn another_federation_and_another_s_certificate_are_refused() {
        let (own, theirs) = (hello("node-1", 1, 2), hello("node-2", 1, 2));
        let stranger = Hello { federation: [8; 32], ..theirs.clone() };
        assert_eq!(own.meet(&stranger, None), Err("it belongs to another federation".to_owned()));
        let other = NodeId::new("node-3").expect("a name");
        let refused = own.meet(&theirs, Some(&other));
        assert_eq!(refused, Err("it says it is node-2; its certificate is node-3's".to_owned()));
        assert_eq!(own.meet(&theirs, Some(&theirs.node)).map(|info| info.peer), Ok(theirs.node));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Hello::decode(bytes.into());
        }
    }
}
