//! Keeps the last events with their numbers; every reader keeps its own position.
//!
//! ```text
//!   numbers    … 7   8   9   10   11   12 …
//!                    └──── stored ────┘
//!   a reader at 5 has missed two (6, 7) and continues with 8
//! ```
//!
//! A reader takes the events after its position when it has capacity for them. So all readers share one ring: a slow
//! reader has no effect on others and learns how many events it missed. The alternative was a queue per reader, which
//! would store every event once per reader and need a task to fill all queues.
//!
//! Failures and decisions are also kept in a second ring, so that the two events of every block do not displace them. A
//! listing covers both rings; a reader with a position reads the first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::event::Recorded;

/// Maximum number of events in each of the two rings.
const HISTORY_MAX: usize = 1024;

/// The stored events. They survive a restart of the actor that writes them. Cheap to clone.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    entries: Mutex<Entries>,
    last: watch::Sender<u64>,
}

struct Entries {
    list: VecDeque<(u64, Arc<Recorded>)>,
    /// Failures and decisions; the newest of them are also in `list`.
    failures: VecDeque<(u64, Arc<Recorded>)>,
    /// Number of the last event, whether it is stored or not.
    last: u64,
}

/// Events after a reader's position.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Number of events after the position that are no longer stored, or never were.
    pub missed: u64,
    /// Next events with their numbers, without a gap.
    pub events: Vec<(u64, Arc<Recorded>)>,
}

impl Default for History {
    fn default() -> Self {
        let entries = Mutex::new(Entries { list: VecDeque::new(), failures: VecDeque::new(), last: 0 });
        Self(Arc::new(Inner { entries, last: watch::Sender::new(0) }))
    }
}

impl History {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an event and drops the oldest one if the ring is full.
    pub fn push(&self, recorded: Arc<Recorded>) {
        let mut entries = self.entries();
        entries.last += 1;
        let last = entries.last;
        if recorded.event.is_failure_or_decision() {
            push_bounded(&mut entries.failures, (last, recorded.clone()));
        }
        push_bounded(&mut entries.list, (last, recorded));
        drop(entries);
        self.0.last.send_replace(last);
    }

    /// Counts events that occurred but were not stored.
    pub fn skip(&self, missed: u64) {
        self.entries().last += missed;
    }

    /// All stored events with their numbers, oldest first.
    pub fn all(&self) -> Vec<(u64, Arc<Recorded>)> {
        let entries = self.entries();
        let oldest = entries.list.front().map_or(0, |(number, _)| *number);
        let older = entries.failures.iter().take_while(|(number, _)| *number < oldest);
        older.chain(&entries.list).cloned().collect()
    }

    /// Number of the last event; 0 before the first.
    pub fn last(&self) -> u64 {
        self.entries().last
    }

    /// At most `max` events after number `place`.
    pub fn after(&self, place: u64, max: usize) -> Slice {
        let entries = self.entries();
        let begin = entries.list.partition_point(|(number, _)| *number <= place);
        let Some((first, _)) = entries.list.get(begin) else { return Slice::default() };
        let contiguous = entries.list.range(begin..).zip(*first..).take(max);
        let contiguous = contiguous.take_while(|((number, _), expected)| number == expected);
        Slice {
            missed: first - place - 1,
            events: contiguous.map(|((number, recorded), _)| (*number, recorded.clone())).collect(),
        }
    }

    /// Notifies of every stored event.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.last.subscribe()
    }
}

/// Appends to a ring and drops its oldest entry if it is full.
fn push_bounded(ring: &mut VecDeque<(u64, Arc<Recorded>)>, entry: (u64, Arc<Recorded>)) {
    if ring.len() == HISTORY_MAX {
        ring.pop_front();
    }
    ring.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::event::ClusterEvent;
    use crate::id::{ActorName, BlockHeight};
    use crate::trace::TraceContext;

    fn event(height: u64) -> Arc<Recorded> {
        let event = ClusterEvent::RoundStarted { height: BlockHeight(height), round: 0 };
        Arc::new(Recorded { at: WallTime(height), event, trace: TraceContext::default() })
    }

    fn numbers(slice: &Slice) -> Vec<u64> {
        slice.events.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_learns_what_it_was_too_slow_for() {
        let history = History::default();
        assert_eq!((history.last(), history.after(0, 9).events.len()), (0, 0));
        (1..=5).for_each(|height| history.push(event(height)));
        let slice = history.after(2, 2);
        assert_eq!((slice.missed, numbers(&slice)), (0, vec![3, 4]));
        assert_eq!(slice.events[0].1.at, WallTime(3), "the third has number 3");
        assert_eq!(numbers(&history.after(4, 9)), [5]);
        assert_eq!(numbers(&history.after(5, 9)), [0; 0]);

        (6..=HISTORY_MAX as u64 + 5).for_each(|height| history.push(event(height)));
        let slice = history.after(2, 1);
        assert_eq!((slice.missed, numbers(&slice)), (3, vec![6]), "3, 4 and 5 are forgotten");
        assert_eq!(history.all().len(), HISTORY_MAX);
    }

    #[test]
    fn blocks_do_not_push_out_failures_and_decisions() {
        let history = History::default();
        let failure = |n: u64| {
            let supervisor = ActorName::new(&format!("worker/{n}")).expect("a name");
            let event = ClusterEvent::SupervisorGaveUp { supervisor, reason: String::new() };
            Arc::new(Recorded { at: WallTime(n), event, trace: TraceContext::default() })
        };
        history.push(failure(1));
        (0..3 * HISTORY_MAX as u64).for_each(|height| history.push(event(height)));
        let all = history.all();
        assert_eq!((all.len(), all[0].0, all[1].0), (HISTORY_MAX + 1, 1, 2 * HISTORY_MAX as u64 + 2));
        assert_eq!(history.after(1, 1).missed, 2 * HISTORY_MAX as u64, "a reader reads the ring of all");
        // This ring is bounded too, and no event is listed twice.
        (0..3 * HISTORY_MAX as u64).for_each(|n| history.push(failure(n)));
        let all = history.all();
        assert_eq!(all.len(), HISTORY_MAX);
        assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn what_nobody_wrote_down_is_missed_by_every_reader() {
        let history = History::default();
        history.push(event(1));
        history.skip(10);
        history.push(event(12));
        let slice = history.after(0, 9);
        assert_eq!((slice.missed, numbers(&slice)), (0, vec![1]), "up to the gap");
        let slice = history.after(1, 9);
        assert_eq!((slice.missed, numbers(&slice)), (10, vec![12]));
        assert_eq!(*history.changes().borrow(), 12);
    }
}
