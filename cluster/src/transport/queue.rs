//! Queues frames for one peer: bounded in number and bytes, higher priority first.
//!
//! When the queue is full, it makes room for a frame by dropping the oldest frame of the lowest priority lane present:
//! any vote matters more than gossip. If no lower lane has frames, the lane's own policy applies ([`Lane::when_full`]).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::envelope::{Lane, WhenFull};

/// Result of pushing a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The frame is queued.
    Waits,
    /// The frame was dropped; its sender gets no error.
    Dropped,
    /// There is no room; its sender gets an error.
    Refused,
}

/// Called for each frame that is dropped or refused.
pub type OnDrop<'a> = &'a mut dyn FnMut(Lane);

/// A bounded queue with one lane per priority.
#[derive(Debug)]
pub struct SendQueue {
    lanes: [VecDeque<Bytes>; Lane::ALL.len()],
    frames_max: usize,
    bytes_max: usize,
    bytes: usize,
}

impl SendQueue {
    /// Creates an empty queue for at most `frames_max` frames and `bytes_max` bytes.
    pub fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self { lanes: Default::default(), frames_max, bytes_max, bytes: 0 }
    }

    /// Number of queued frames.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// Number of queued bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    fn is_full_for(&self, frame: &Bytes) -> bool {
        self.len() >= self.frames_max || self.bytes + frame.len() > self.bytes_max
    }

    fn drop_oldest(&mut self, lane: usize, on_drop: OnDrop<'_>) {
        if let Some(dropped) = self.lanes[lane].pop_front() {
            self.bytes -= dropped.len();
            on_drop(Lane::ALL[lane]);
        }
    }

    /// Queues a frame, if there is room or room can be made.
    pub fn push(&mut self, lane: Lane, frame: Bytes, on_drop: OnDrop<'_>) -> Pushed {
        let own = lane as usize;
        while self.is_full_for(&frame) {
            let could_fit = frame.len() <= self.bytes_max;
            let least = (own + 1..self.lanes.len()).rev().find(|lane| !self.lanes[*lane].is_empty());
            match (least, lane.when_full()) {
                (Some(lane), _) if could_fit => self.drop_oldest(lane, on_drop),
                (None, WhenFull::DropOldest) if could_fit && !self.lanes[own].is_empty() => {
                    self.drop_oldest(own, on_drop);
                }
                (_, when_full) => {
                    on_drop(lane);
                    let is_told = when_full == WhenFull::Refuse;
                    return if is_told { Pushed::Refused } else { Pushed::Dropped };
                }
            }
        }
        self.bytes += frame.len();
        self.lanes[own].push_back(frame);
        Pushed::Waits
    }

    /// Appends the next frames to `into` until it holds `bytes_max` bytes, but at least one frame if any is queued.
    /// Returns their number.
    pub fn take(&mut self, bytes_max: usize, into: &mut BytesMut) -> usize {
        let mut taken = 0;
        for lane in &mut self.lanes {
            while let Some(next) = lane.front() {
                if taken > 0 && into.len() + next.len() > bytes_max {
                    return taken;
                }
                into.extend_from_slice(next);
                self.bytes -= next.len();
                lane.pop_front();
                taken += 1;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: usize = usize::MAX;

    fn frame(tag: u8, bytes: usize) -> Bytes {
        vec![tag; bytes].into()
    }

    fn push(queue: &mut SendQueue, lane: Lane, frame: Bytes) -> Pushed {
        queue.push(lane, frame, &mut |_| {})
    }

    fn taken(queue: &mut SendQueue) -> Vec<u8> {
        let mut into = BytesMut::new();
        queue.take(ANY, &mut into);
        into.to_vec()
    }

    #[test]
    fn important_classes_go_first_and_each_keeps_its_order() {
        let mut queue = SendQueue::new(16, ANY);
        for (lane, tag) in [
            (Lane::Bulk, 1),
            (Lane::Consensus, 2),
            (Lane::Bulk, 3),
            (Lane::Heartbeat, 4),
            (Lane::Request, 5),
            (Lane::Consensus, 6),
        ] {
            assert_eq!(push(&mut queue, lane, frame(tag, 1)), Pushed::Waits);
        }
        assert_eq!(taken(&mut queue), [4, 2, 6, 5, 1, 3]);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn a_full_queue_makes_room_for_what_matters_more_and_each_class_decides_among_its_own() {
        let (mut queue, mut dropped) = (SendQueue::new(3, ANY), vec![]);
        for (lane, tag, expected) in [
            (Lane::Bulk, 1, Pushed::Waits),
            (Lane::Consensus, 2, Pushed::Waits),
            (Lane::Request, 3, Pushed::Waits),
            // Drops the bulk frame.
            (Lane::Consensus, 4, Pushed::Waits),
            (Lane::Bulk, 5, Pushed::Dropped),
            (Lane::Request, 6, Pushed::Refused),
            // Drops the request.
            (Lane::Consensus, 7, Pushed::Waits),
            // Drops the oldest consensus frame.
            (Lane::Consensus, 8, Pushed::Waits),
            (Lane::Heartbeat, 9, Pushed::Waits),
        ] {
            let pushed = queue.push(lane, frame(tag, 1), &mut |lane| dropped.push(lane));
            assert_eq!(pushed, expected, "{tag}");
        }
        let [consensus, request, bulk] = [Lane::Consensus, Lane::Request, Lane::Bulk];
        assert_eq!(dropped, [bulk, bulk, request, request, consensus, consensus]);
        assert_eq!(taken(&mut queue), [9, 7, 8]);
    }

    #[test]
    fn bytes_are_bounded_as_well() {
        let mut queue = SendQueue::new(16, 100);
        assert_eq!(push(&mut queue, Lane::Bulk, frame(1, 60)), Pushed::Waits);
        assert_eq!(push(&mut queue, Lane::Bulk, frame(2, 60)), Pushed::Dropped);
        assert_eq!(push(&mut queue, Lane::Consensus, frame(3, 60)), Pushed::Waits);
        assert_eq!((queue.len(), queue.bytes()), (1, 60));
        assert_eq!(
            push(&mut queue, Lane::Consensus, frame(4, 101)),
            Pushed::Dropped,
            "larger than all of it"
        );
        assert_eq!(queue.len(), 1, "nothing makes way for what has no room at all");
    }

    #[test]
    fn what_is_sent_together_is_bounded_and_a_large_frame_goes_alone() {
        let mut queue = SendQueue::new(16, ANY);
        for tag in 1..=3 {
            push(&mut queue, Lane::Bulk, frame(tag, 10));
        }
        let mut into = BytesMut::new();
        assert_eq!(queue.take(20, &mut into), 2);
        push(&mut queue, Lane::Heartbeat, frame(9, 50));
        into.clear();
        assert_eq!((queue.take(20, &mut into), into.len()), (1, 50));
    }
}
