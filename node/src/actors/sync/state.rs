//! Decides which member to ask for which blocks.
//!
//! One request is in flight at a time. A member that is a single block behind waits a moment first, because it usually
//! decides that block itself soon.
//!
//! A response that arrives after its request was given up is accepted as well. On a slow link a response delays
//! heartbeats, so that its sender looks lost while it arrives; a member that discarded such responses would request the
//! same blocks forever.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::federation::believed;
use alys_cluster::id::NodeId;

/// Initial and minimum timeout of a request, after which another member is asked.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum timeout of a request: a whole response must arrive over links that all responses may share.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_mins(2);
/// Timeout of the next request to a member, as a multiple of the time its last response took.
const PATIENCE_FACTOR: u32 = 4;
/// Pause in requests after consensus was not there to take a response: it is restarting or halted.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a member that claims more than others confirm is not asked after it did not deliver; doubled each time.
const UNCONFIRMED_PAUSE: Duration = Duration::from_secs(1);
/// Maximum number of doublings of [`UNCONFIRMED_PAUSE`]: about a minute.
const UNCONFIRMED_DOUBLINGS: u32 = 6;
/// Given-up requests whose responses are still accepted. Responses of one member arrive in order: if the earlier
/// requests were forgotten, no response would ever count.
const GIVEN_UP_MAX: usize = 16;
/// How long a member may be a single block behind before it asks.
const PATIENCE: Duration = Duration::from_millis(400);

/// Inputs of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Tick {
        /// Height of this member.
        height: u64,
        /// Heights of the peers that are up.
        peers: Vec<(NodeId, u64)>,
    },
    /// The response to a request arrived, and is being processed.
    Arrived {
        /// Sender of the response.
        from: NodeId,
        /// ID of the request.
        id: u64,
    },
    /// The response to a request was processed.
    Answered {
        /// Sender of the response.
        from: NodeId,
        /// ID of the request.
        id: u64,
        /// Whether every block in the response was accepted.
        useful: bool,
    },
    /// A response arrived, but consensus was not there to take it.
    NotTaken {
        /// Sender of the response.
        from: NodeId,
        /// ID of the request.
        id: u64,
    },
    /// A member went down.
    Down(NodeId),
}

/// Effects for the actor to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask a member for blocks.
    Request {
        /// Member to ask.
        to: NodeId,
        /// ID of the request.
        id: u64,
        /// First height wanted.
        from: u64,
    },
    /// Report the peers' heights to consensus.
    PeersAt {
        /// Highest height claimed by more members than may lie.
        height: u64,
        /// Number of peers that reported a height.
        heard: usize,
    },
}

#[derive(Clone, Debug)]
struct UnderWay {
    to: NodeId,
    id: u64,
    /// First height wanted.
    from: u64,
    since: Moment,
    has_arrived: bool,
}

impl UnderWay {
    fn is(&self, to: &NodeId, id: u64) -> bool {
        self.to == *to && self.id == id
    }
}

/// How one member has responded so far.
#[derive(Clone, Debug)]
struct Record {
    /// Number of consecutive requests that it did not fulfil; `disappointed` is the time of the last one.
    disappointments: u32,
    disappointed: Moment,
    /// Timeout of the next request to it: longer after a late response, and proportional to the time its last response
    /// took.
    patience: Duration,
    /// Time its last response took.
    took: Duration,
}

impl Default for Record {
    fn default() -> Self {
        let (disappointed, took) = (Moment::ORIGIN, Duration::ZERO);
        Self { disappointments: 0, disappointed, patience: REQUEST_TIMEOUT, took }
    }
}

impl Record {
    /// How slow the member is, in doublings of the initial timeout: a member that responds just in time, with little,
    /// is not asked again while others are faster.
    fn slowness(&self) -> u32 {
        (self.took.as_millis() / REQUEST_TIMEOUT.as_millis())
            .checked_ilog2()
            .map_or(0, |doublings| doublings + 1)
    }

    fn disappoints(&mut self, now: Moment) {
        self.disappointments += 1;
        self.disappointed = now;
    }
}

/// The state: the request in flight, the given-up requests, and how each member responds.
#[derive(Clone, Debug)]
pub struct SyncState {
    tolerated: usize,
    under_way: Option<UnderWay>,
    /// Requests that nobody waits for any more, oldest first; their responses are still accepted.
    given_up: VecDeque<UnderWay>,
    last_id: u64,
    behind_since: Option<(u64, Moment)>,
    records: BTreeMap<NodeId, Record>,
    /// Time before which nobody is asked, because consensus would not take the response.
    paused_until: Moment,
}

impl SyncState {
    /// Creates a state without requests. `tolerated` members may lie about their height.
    pub fn new(tolerated: usize) -> Self {
        Self {
            tolerated,
            under_way: None,
            given_up: VecDeque::new(),
            last_id: 0,
            behind_since: None,
            records: BTreeMap::new(),
            paused_until: Moment::ORIGIN,
        }
    }

    /// First height of the request `id` to `from`, if its response would be accepted: the request is in flight or was
    /// given up.
    pub fn expects(&self, from: &NodeId, id: u64) -> Option<u64> {
        let mut requests = self.under_way.iter().chain(&self.given_up);
        requests.find(|request| request.is(from, id)).map(|request| request.from)
    }

    fn is_under_way(&self, from: &NodeId, id: u64) -> bool {
        self.under_way.as_ref().is_some_and(|request| request.is(from, id))
    }

    /// A response arrived: to the request in flight, or to a given-up one, which then becomes the request in flight.
    fn arrived(&mut self, now: Moment, from: &NodeId, id: u64) {
        if let Some(at) = self.given_up.iter().position(|request| request.is(from, id)) {
            let late = self.given_up.remove(at);
            self.give_up();
            self.under_way = late;
        }
        if let Some(request) = self.under_way.as_mut().filter(|request| request.is(from, id)) {
            request.has_arrived = true;
            let record = self.records.entry(from.clone()).or_default();
            record.took = now.since(request.since);
            record.patience = (record.took * PATIENCE_FACTOR).clamp(REQUEST_TIMEOUT, REQUEST_TIMEOUT_MAX);
        }
    }

    /// Stops waiting for the request in flight.
    fn give_up(&mut self) {
        if self.given_up.len() == GIVEN_UP_MAX {
            self.given_up.pop_front();
        }
        self.given_up.extend(self.under_way.take());
    }

    /// Handles an input and returns the effects that follow.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick { height, peers } => self.tick(now, height, &peers),
            Input::Arrived { from, id } => {
                self.arrived(now, &from, id);
                vec![]
            }
            Input::Answered { from, id, useful } => {
                if self.is_under_way(&from, id) {
                    self.under_way = None;
                    let record = self.records.entry(from).or_default();
                    if useful { record.disappointments = 0 } else { record.disappoints(now) }
                }
                vec![]
            }
            Input::NotTaken { from, id } => {
                if self.is_under_way(&from, id) {
                    self.under_way = None;
                    self.paused_until = now + PAUSE;
                }
                vec![]
            }
            Input::Down(node) => {
                // A response that has arrived from a lost member is as good as before.
                if self.under_way.as_ref().is_some_and(|request| request.to == node && !request.has_arrived) {
                    self.give_up();
                }
                vec![]
            }
        }
    }

    fn tick(&mut self, now: Moment, height: u64, peers: &[(NodeId, u64)]) -> Vec<Effect> {
        let heights = || peers.iter().map(|(_, height)| *height);
        let peers_at = believed(heights().collect(), self.tolerated).unwrap_or(0);
        let mut effects = vec![Effect::PeersAt { height: peers_at, heard: peers.len() }];
        if let Some(request) = &self.under_way
            && !request.has_arrived
            && now.since(request.since) >= self.record(&request.to).patience
        {
            let late = self.records.entry(request.to.clone()).or_default();
            late.patience = (late.patience * 2).min(REQUEST_TIMEOUT_MAX);
            late.disappoints(now);
            self.give_up();
        }
        let highest = heights().max().unwrap_or(0);
        if highest <= height {
            self.behind_since = None;
            return effects;
        }
        let since = match self.behind_since {
            Some((at, since)) if at == height => since,
            _ => now,
        };
        self.behind_since = Some((height, since));
        let is_patient = highest == height + 1 && now.since(since) < PATIENCE || now < self.paused_until;
        if self.under_way.is_none() && !is_patient {
            effects.extend(self.request(now, height, peers_at, peers));
        }
        effects
    }

    fn record(&self, node: &NodeId) -> Record {
        self.records.get(node).cloned().unwrap_or_default()
    }

    /// Asks a member that has more blocks: the one that failed least and responds fastest. If no more members claim
    /// such a height than may lie, one that did not deliver is asked again only after a pause: a claim without a
    /// certificate proves nothing.
    fn request(
        &mut self,
        now: Moment,
        height: u64,
        peers_at: u64,
        peers: &[(NodeId, u64)],
    ) -> Option<Effect> {
        let is_left_alone = |node: &NodeId| {
            let record = self.record(node);
            let Some(before) = record.disappointments.checked_sub(1).filter(|_| peers_at <= height) else {
                return false;
            };
            now.since(record.disappointed) < UNCONFIRMED_PAUSE * 2_u32.pow(before.min(UNCONFIRMED_DOUBLINGS))
        };
        let ahead = peers.iter().filter(|(node, theirs)| *theirs > height && !is_left_alone(node));
        let (to, _) = ahead.min_by_key(|(node, theirs)| {
            let record = self.record(node);
            (record.disappointments, record.slowness(), std::cmp::Reverse(*theirs))
        })?;
        self.last_id += 1;
        let (to, id, from) = (to.clone(), self.last_id, height + 1);
        self.under_way = Some(UnderWay { to: to.clone(), id, from, since: now, has_arrived: false });
        Some(Effect::Request { to, id, from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn node(n: u32) -> NodeId {
        NodeId::new(&format!("node-{n}")).expect("a name")
    }

    fn peers_at(height: u64) -> Effect {
        Effect::PeersAt { height, heard: 3 }
    }

    fn tick(height: u64, peers: [u64; 3]) -> Input {
        Input::Tick { height, peers: (2..).map(node).zip(peers).collect() }
    }

    fn request(to: u32, id: u64, from: u64) -> Effect {
        Effect::Request { to: node(to), id, from }
    }

    #[test]
    fn a_member_far_behind_asks_the_highest_at_once_and_only_one_at_a_time() {
        let mut state = SyncState::new(1);
        assert_eq!(state.handle(at(0), tick(3, [9, 10, 8])), [peers_at(9), request(3, 1, 4)]);
        assert_eq!(state.handle(at(100), tick(3, [9, 10, 8])), [peers_at(9)]);
    }

    #[test]
    fn a_single_block_is_waited_for_a_moment() {
        let mut state = SyncState::new(1);
        assert_eq!(state.handle(at(0), tick(3, [4, 4, 4])), [peers_at(4)]);
        assert_eq!(state.handle(at(399), tick(3, [4, 4, 4])), [peers_at(4)]);
        assert_eq!(state.handle(at(400), tick(3, [4, 4, 4])), [peers_at(4), request(2, 1, 4)]);
        let mut state = SyncState::new(1);
        state.handle(at(0), tick(3, [4, 4, 4]));
        state.handle(at(300), tick(4, [4, 4, 4]));
        assert_eq!(state.handle(at(600), tick(4, [5, 5, 5])), [peers_at(5)], "the patience begins anew");
    }

    #[test]
    fn who_does_not_answer_or_answers_uselessly_is_asked_last() {
        let mut state = SyncState::new(1);
        state.handle(at(0), tick(3, [9, 10, 8]));
        let effects = state.handle(at(1_000), tick(3, [9, 10, 8]));
        assert_eq!(effects, [peers_at(9), request(2, 2, 4)]);
        state.handle(at(1_100), Input::Arrived { from: node(2), id: 2 });
        state.handle(at(1_100), Input::Answered { from: node(2), id: 2, useful: false });
        let effects = state.handle(at(1_200), tick(3, [9, 10, 8]));
        assert_eq!(effects, [peers_at(9), request(4, 3, 4)]);
        state.handle(at(1_300), Input::Answered { from: node(4), id: 3, useful: true });
        let effects = state.handle(at(1_400), tick(8, [9, 10, 8]));
        assert_eq!(effects, [peers_at(9), request(3, 4, 9)]);
    }

    #[test]
    fn a_link_that_takes_longer_for_an_answer_than_a_request_waits_is_given_the_time_it_needs() {
        // Responses of 5 s each arrive one after another over the single link of this member.
        let (mut state, mut height, mut free_at, mut asked) = (SyncState::new(1), 0, 0, 0);
        let mut coming = std::collections::VecDeque::<(u64, NodeId, u64)>::new();
        for now in (0..600_000).step_by(100) {
            if let Some((_, from, id)) = coming.pop_front_if(|(arrives, ..)| *arrives <= now)
                && state.expects(&from, id).is_some()
            {
                state.handle(at(now), Input::Arrived { from: from.clone(), id });
                state.handle(at(now), Input::Answered { from, id, useful: true });
                height += 1;
            }
            for effect in state.handle(at(now), tick(height, [10_000; 3])) {
                if let Effect::Request { to, id, .. } = effect {
                    free_at = now.max(free_at) + 5_000;
                    coming.push_back((free_at, to, id));
                    asked += 1;
                }
            }
        }
        assert!(height > 100, "{height} of 120 answers");
        assert!(asked < height + 10, "asked {asked} times for {height}");
    }

    #[test]
    fn one_that_answers_ever_later_and_little_is_not_asked_again_while_others_are_faster() {
        // It claims the most, and responds with one block just before it would be given up.
        let (mut state, mut height, mut of_the_liar, mut wait) = (SyncState::new(1), 0, 0, 900);
        let mut coming: Option<(u64, NodeId, u64)> = None;
        for now in (0..60_000).step_by(100) {
            if let Some((_, from, id)) = coming.take_if(|(arrives, ..)| *arrives <= now) {
                state.handle(at(now), Input::Arrived { from: from.clone(), id });
                state.handle(at(now), Input::Answered { from: from.clone(), id, useful: true });
                height += if from == node(3) { 1 } else { 64 };
            }
            for effect in state.handle(at(now), tick(height, [10_000, 20_000, 10_000])) {
                if let Effect::Request { to, id, .. } = effect {
                    let is_liar = to == node(3);
                    coming = Some((now + if is_liar { wait } else { 300 }, to, id));
                    if is_liar {
                        of_the_liar += 1;
                        wait = (wait * 4).saturating_sub(100);
                    }
                }
            }
        }
        assert!(height > 5_000, "{height} blocks in a minute, {of_the_liar} answers of the liar");
    }

    #[test]
    fn one_that_claims_what_nobody_confirms_and_does_not_deliver_is_asked_ever_less() {
        let mut state = SyncState::new(1);
        let mut asked = 0;
        for second in 0..600 {
            for effect in state.handle(at(second * 1_000), tick(9, [9, 1_000_000, 9])) {
                if let Effect::Request { to, id, .. } = effect {
                    asked += 1;
                    state.handle(at(second * 1_000), Input::Answered { from: to, id, useful: false });
                }
            }
        }
        assert!((6..=20).contains(&asked), "asked {asked} times in ten minutes");
        // Once others confirm that there are more blocks, any member may be asked.
        let effects = state.handle(at(601_000), tick(9, [12, 1_000_000, 12]));
        assert_eq!(effects, [peers_at(12), request(2, state.last_id, 10)]);
    }

    #[test]
    fn an_answer_that_is_worked_on_is_neither_late_nor_lost_with_its_sender() {
        let mut state = SyncState::new(1);
        state.handle(at(0), tick(3, [9, 10, 8]));
        state.handle(at(900), Input::Arrived { from: node(3), id: 1 });
        state.handle(at(950), Input::Down(node(3)));
        assert_eq!(state.handle(at(9_000), tick(5, [9, 10, 8])), [peers_at(9)]);
        state.handle(at(9_100), Input::Answered { from: node(3), id: 1, useful: true });
        let effects = state.handle(at(9_200), tick(8, [9, 10, 8]));
        assert_eq!(effects, [peers_at(9), request(3, 2, 9)], "who has blocks is asked again at once");
    }

    #[test]
    fn nobody_is_asked_for_a_while_when_consensus_is_not_there_to_take_the_answer() {
        let mut state = SyncState::new(1);
        state.handle(at(0), tick(3, [9, 10, 8]));
        state.handle(at(10), Input::NotTaken { from: node(3), id: 1 });
        let quiet = [peers_at(9)];
        assert_eq!(state.handle(at(20), tick(3, [9, 10, 8])), quiet);
        assert_eq!(state.handle(at(1_009), tick(3, [9, 10, 8])), quiet);
        let effects = state.handle(at(1_010), tick(3, [9, 10, 8]));
        assert_eq!(effects, [peers_at(9), request(3, 2, 4)], "and the peer is not to blame");
    }

    #[test]
    fn a_lost_member_is_not_waited_for_and_answers_that_nobody_asked_for_are_not_expected() {
        let mut state = SyncState::new(1);
        state.handle(at(0), tick(3, [9, 10, 8]));
        state.handle(at(10), Input::Down(node(3)));
        let peers = vec![(node(2), 9)];
        let effects = state.handle(at(20), Input::Tick { height: 3, peers });
        assert_eq!(effects, [Effect::PeersAt { height: 0, heard: 1 }, request(2, 2, 4)]);
        assert_eq!(state.expects(&node(2), 2), Some(4));
        assert!(state.expects(&node(4), 2).is_none() && state.expects(&node(2), 1).is_none());
    }

    #[test]
    fn an_answer_that_comes_after_its_request_was_given_up_is_taken_and_teaches_patience() {
        let mut state = SyncState::new(1);
        state.handle(at(0), tick(3, [9, 10, 8]));
        // It looks lost while its response delays its heartbeats, and the next member is late.
        state.handle(at(700), Input::Down(node(3)));
        assert_eq!(state.handle(at(800), tick(3, [9, 0, 8])), [peers_at(8), request(2, 2, 4)]);
        assert_eq!(state.handle(at(1_800), tick(3, [9, 0, 8])), [peers_at(8), request(4, 3, 4)]);
        for (from, id) in [(3, 1), (2, 2), (4, 3)] {
            assert_eq!(state.expects(&node(from), id), Some(4), "{id} of {from}");
        }
        state.handle(at(4_000), Input::Arrived { from: node(3), id: 1 });
        assert_eq!(state.handle(at(4_010), tick(4, [9, 10, 8])), [peers_at(9)], "it is worked on");
        state.handle(at(4_020), Input::Answered { from: node(3), id: 1, useful: true });
        assert_eq!(state.expects(&node(3), 1), None, "once");
        // The member that has more blocks and did not fail.
        assert_eq!(state.handle(at(4_030), tick(7, [9, 10, 7])), [peers_at(9), request(3, 4, 8)]);
        // Four times what the response took.
        assert_eq!(state.handle(at(20_029), tick(7, [9, 10, 7])), [peers_at(9)]);
        let effects = state.handle(at(20_030), tick(7, [9, 10, 7]));
        assert!(matches!(effects[1], Effect::Request { id: 5, .. }), "{effects:?}");
    }

    #[test]
    fn one_member_alone_can_not_make_the_others_believe_in_a_height() {
        let mut state = SyncState::new(1);
        let effects = state.handle(at(0), tick(3, [1_000_000, 3, 3]));
        assert_eq!(effects[0], peers_at(3));
    }
}
