//! Limits what each member may have queued at one receiver, so that a flooding member can not starve the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::NodeId;

/// Queued messages of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Number of messages.
    pub messages: usize,
    /// Total size of the messages, in bytes.
    pub bytes: usize,
}

/// Quotas of all members at one receiver. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct SenderQuota {
    most: Load,
    taken: Arc<Mutex<BTreeMap<NodeId, Load>>>,
}

/// Quota held for one message; released on drop.
pub struct Share {
    shares: SenderQuota,
    of: NodeId,
    bytes: usize,
}

impl SenderQuota {
    /// Creates quotas that let each member have `most` queued.
    pub fn new(most: Load) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// Takes quota for a message of `bytes` bytes from `of`; returns the member's current load if there is not enough.
    pub fn take(&self, of: &NodeId, bytes: usize) -> Result<Share, Load> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let load = taken.entry(of.clone()).or_default();
        if load.messages >= self.most.messages || load.bytes + bytes > self.most.bytes {
            return Err(*load);
        }
        load.messages += 1;
        load.bytes += bytes;
        Ok(Share { shares: self.clone(), of: of.clone(), bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = taken.get_mut(&self.of) {
            load.messages -= 1;
            load.bytes -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_takes_no_more_than_its_share_and_none_of_another_s() {
        let [one, other] = ["node-1", "node-2"].map(|name| NodeId::new(name).expect("a name"));
        let shares = SenderQuota::new(Load { messages: 2, bytes: 100 });
        let first = shares.take(&one, 10).map_err(drop).expect("room");
        assert_eq!(shares.take(&one, 91).map(drop), Err(Load { messages: 1, bytes: 10 }), "bytes");
        let _second = shares.take(&one, 90).map_err(drop).expect("room");
        assert_eq!(shares.take(&one, 0).map(drop), Err(Load { messages: 2, bytes: 100 }), "messages");
        assert!(shares.take(&other, 100).is_ok());
        drop(first);
        assert!(shares.take(&one, 10).is_ok(), "what was handled makes room");
    }
}
