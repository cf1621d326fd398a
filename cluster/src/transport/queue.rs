//! Envelopes waiting for one peer: bounded, and the important ones first.
//!
//! When it is full the oldest envelope of the least important class present is dropped: an old heartbeat or
//! vote is worth less than a new one, and any vote more than gossip.

use std::collections::VecDeque;

use super::envelope::{Class, Envelope};

/// The most payload bytes sent together, beyond which a batch holds one envelope.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// The most envelopes sent together.
const BATCH_LEN_MAX: usize = 64;

/// A bounded queue with a lane for each class.
#[derive(Debug)]
pub struct SendQueue {
    lanes: [VecDeque<Envelope>; Class::ALL.len()],
    capacity: usize,
    dropped: u64,
}

impl SendQueue {
    /// An empty queue for `capacity` envelopes.
    pub fn new(capacity: usize) -> Self {
        Self { lanes: Default::default(), capacity, dropped: 0 }
    }

    /// Envelopes waiting.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Envelopes dropped since start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds an envelope, dropping one if the queue is full.
    pub fn push(&mut self, class: Class, envelope: Envelope) {
        self.lanes[class as usize].push_back(envelope);
        if self.len() > self.capacity {
            let lane = self.lanes.iter_mut().rev().find(|lane| !lane.is_empty());
            lane.and_then(VecDeque::pop_front).expect("a queue over capacity is not empty");
            self.dropped += 1;
        }
    }

    /// The next envelopes to send together; empty if none waits.
    pub fn next_batch(&mut self) -> Vec<Envelope> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for lane in &mut self.lanes {
            while let Some(next) = lane.front() {
                bytes += next.payload.len();
                if batch.len() == BATCH_LEN_MAX || (!batch.is_empty() && bytes > BATCH_BYTES_MAX) {
                    return batch;
                }
                batch.extend(lane.pop_front());
            }
        }
        batch
    }

    /// Drops everything: what waited for a lost session is asked for again by whoever needs it.
    pub fn clear(&mut self) {
        self.dropped += self.len() as u64;
        self.lanes.iter_mut().for_each(VecDeque::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ActorName, Incarnation, NodeId};

    fn envelope(tag: u8, bytes: usize) -> Envelope {
        Envelope {
            source: NodeId::new("node-1").expect("a name"),
            incarnation: Incarnation(1),
            destination: ActorName::literal("chain"),
            trace: super::super::trace::TraceContext::default(),
            payload: vec![tag; bytes],
        }
    }

    fn tags(batch: &[Envelope]) -> Vec<u8> {
        batch.iter().map(|envelope| envelope.payload[0]).collect()
    }

    #[test]
    fn important_classes_go_first_and_each_keeps_its_order() {
        let mut queue = SendQueue::new(16);
        for (class, tag) in [
            (Class::Bulk, 1),
            (Class::Consensus, 2),
            (Class::Bulk, 3),
            (Class::Heartbeat, 4),
            (Class::Consensus, 5),
        ] {
            queue.push(class, envelope(tag, 1));
        }
        assert_eq!(tags(&queue.next_batch()), [4, 2, 5, 1, 3]);
        assert_eq!(queue.next_batch(), []);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_of_the_least_important_and_counts() {
        let mut queue = SendQueue::new(3);
        for (class, tag) in [
            (Class::Bulk, 1),
            (Class::Consensus, 2),
            (Class::Consensus, 3),
            (Class::Consensus, 4),
            (Class::Bulk, 5),
        ] {
            queue.push(class, envelope(tag, 1));
        }
        assert_eq!((tags(&queue.next_batch()), queue.dropped()), (vec![2, 3, 4], 2));
    }

    #[test]
    fn batches_are_bounded_in_number_and_in_bytes_and_a_large_envelope_goes_alone() {
        let mut queue = SendQueue::new(1_000);
        (0..100).for_each(|_| queue.push(Class::Bulk, envelope(0, 1)));
        assert_eq!(queue.next_batch().len(), BATCH_LEN_MAX);
        queue.clear();
        queue.push(Class::Bulk, envelope(1, BATCH_BYTES_MAX * 2));
        queue.push(Class::Bulk, envelope(2, 1));
        assert_eq!(tags(&queue.next_batch()), [1]);
        assert_eq!(tags(&queue.next_batch()), [2]);
    }
}
