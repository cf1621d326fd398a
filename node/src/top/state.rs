//! Keeps the state of a federation: the last response of each member, and the blocks and events that all of them
//! reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_cluster::clock::Moment;

use super::target::Target;
use super::view::duration;
use crate::ops::view::{EventView, FederationView, GateDecision, ReadyView};

/// Maximum number of blocks kept.
const BLOCKS_MAX: usize = 64;
/// Maximum number of events kept.
const EVENTS_MAX: usize = 200;
/// Maximum number of characters kept of a text from a member.
const TEXT_MAX: usize = 400;
/// Block times without a block after which the federation is shown as stalled.
const SLOTS_MISSED: u32 = 3;
/// Kinds of events that come with every block and hide more important ones.
const ROUTINE: [&str; 2] = ["height_committed", "round_started"];

/// Response of one member to a poll.
#[derive(Clone, Debug)]
pub struct MemberAnswer {
    /// Response of `GET /federation/status`.
    pub status: FederationView,
    /// Response of `GET /readyz`.
    pub ready: ReadyView,
    /// Automatic restarts in the member's supervision tree.
    pub restarts: u64,
    /// Version of the member.
    pub version: String,
    /// Interval between blocks.
    pub block_time: Duration,
    /// Age of the member's last block, as far as its clock and this machine's agree.
    pub block_age: Option<Duration>,
    /// Blocks that the member had not reported before.
    pub blocks: Vec<Block>,
    /// Response of `GET /events`; empty if it was not requested.
    pub events: Vec<EventView>,
}

/// A decided block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Height of the block.
    pub height: u64,
    /// Wall-clock time at which a member first decided it, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Member that built the block.
    pub proposer: String,
    /// Round in which the block was decided.
    pub round: u32,
}

/// Result of polling a member.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Index of the member among the targets.
    pub member: usize,
    /// The member's response, or why there is none.
    pub outcome: Result<Box<MemberAnswer>, String>,
}

/// A member, as it is shown.
#[derive(Clone, Debug)]
pub struct Row {
    target: Target,
    /// Last response of the member.
    last: Option<Box<MemberAnswer>>,
    /// Time of that response.
    at: Moment,
    /// Why the last poll got no response, if so.
    silence: Option<String>,
}

/// An event and the member that reported it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToldEvent {
    /// Time of the event, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Member that reported the event.
    pub member: String,
    /// Text of the event.
    pub message: String,
}

/// State of the whole federation.
#[derive(Clone, Debug)]
pub struct Board {
    rows: Vec<Row>,
    blocks: BTreeMap<u64, Block>,
    events: BTreeSet<ToldEvent>,
    /// Highest block of any member.
    newest: Option<Newest>,
}

/// A block that was the highest when it was reported.
#[derive(Clone, Copy, Debug)]
struct Newest {
    height: u64,
    /// Time at which it was reported.
    at: Moment,
    /// Age of the block at that time.
    age: Duration,
}

/// Status of a federation in at most two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headline {
    /// No member has responded yet.
    Asking,
    /// Too few gates are open, or too few members respond.
    Halted,
    /// The gates are open, but no block is decided.
    Stalled,
    /// The federation works, but halts if one more member fails.
    NoSpare,
    /// The federation works.
    Works,
}

impl Headline {
    /// The text that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asking => "ASKING",
            Self::Halted => "HALTED",
            Self::Stalled => "STALLED",
            Self::NoSpare => "NO SPARE",
            Self::Works => "WORKS",
        }
    }

    /// Whether blocks are decided.
    pub fn works(self) -> bool {
        matches!(self, Self::Works | Self::NoSpare)
    }
}

/// Whether a member responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// No poll of the member has finished yet.
    Unknown,
    /// The member responds.
    Up,
    /// The member does not respond.
    Unreachable,
}

impl Reachability {
    /// The reachability in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "asking",
            Self::Up => "up",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Board {
    /// Creates a board for the members at `targets`, of which nothing is known yet.
    pub fn new(targets: Vec<Target>) -> Self {
        let row = |target| Row { target, last: None, at: Moment::ORIGIN, silence: None };
        Self {
            rows: targets.into_iter().map(row).collect(),
            blocks: BTreeMap::new(),
            events: BTreeSet::new(),
            newest: None,
        }
    }

    /// Creates a board of a single member that has responded.
    pub fn of_one(target: Target, answer: Box<MemberAnswer>, now: Moment) -> Self {
        let mut board = Self::new(vec![target]);
        board.absorb(now, Heard { member: 0, outcome: Ok(answer) });
        board
    }

    /// Adds the result of polling a member.
    pub fn absorb(&mut self, now: Moment, heard: Heard) {
        let Some(row) = self.rows.get_mut(heard.member) else { return };
        match heard.outcome {
            Err(why) => row.silence = Some(clean(&why)),
            Ok(mut answer) => {
                answer.status.node = clean(&answer.status.node);
                answer.status.chain_id = clean(&answer.status.chain_id);
                answer.status.reason = clean(&answer.status.reason);
                answer.version = clean(&answer.version);
                for reason in &mut answer.ready.reasons {
                    *reason = clean(reason);
                }
                for block in std::mem::take(&mut answer.blocks) {
                    let block = Block { proposer: clean(&block.proposer), ..block };
                    let known = self.blocks.entry(block.height).or_insert_with(|| block.clone());
                    known.at_ms = known.at_ms.min(block.at_ms);
                }
                let notable = std::mem::take(&mut answer.events).into_iter();
                let notable = notable.filter(|event| !ROUTINE.contains(&event.kind.as_str()));
                self.events.extend(notable.map(|event| ToldEvent {
                    at_ms: event.at_ms,
                    member: answer.status.node.clone(),
                    message: clean(&event.message),
                }));
                let height = answer.status.height;
                if self.newest.is_none_or(|newest| height > newest.height) {
                    self.newest = Some(Newest { height, at: now, age: answer.block_age.unwrap_or_default() });
                }
                (row.at, row.silence) = (now, None);
                row.last = Some(answer);
            }
        }
        while self.blocks.len() > BLOCKS_MAX {
            self.blocks.pop_first();
        }
        while self.events.len() > EVENTS_MAX {
            self.events.pop_first();
        }
    }

    /// Every member, in the order of the targets.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The last blocks, lowest first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.values()
    }

    /// Intervals between consecutive blocks, oldest first, where both blocks are known.
    pub fn intervals(&self) -> Vec<Duration> {
        let pairs = self.blocks.values().zip(self.blocks.values().skip(1));
        let next_to = pairs.filter(|(before, after)| before.height + 1 == after.height);
        next_to
            .map(|(before, after)| Duration::from_millis(after.at_ms.saturating_sub(before.at_ms)))
            .collect()
    }

    /// The last events, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &ToldEvent> {
        self.events.iter()
    }

    /// Number of healthy members that the gates require, if any member has reported it.
    pub fn required(&self) -> Option<usize> {
        self.answers().map(|answer| answer.status.required).max()
    }

    /// Number of members that respond and whose gate is open.
    pub fn open(&self) -> usize {
        self.answers().filter(|answer| answer.status.gate == GateDecision::Open).count()
    }

    /// Whether as many members as required respond with an open gate. If fewer members are polled than required, all of
    /// them must: an open gate also vouches for the members that its own member finds healthy.
    pub fn works(&self) -> bool {
        let enough = |required: usize| required > 0 && self.open() >= required.min(self.rows.len());
        self.required().is_some_and(enough)
    }

    /// Current status of the federation.
    pub fn headline(&self, now: Moment) -> Headline {
        if self.rows.iter().all(|row| row.reachability() == Reachability::Unknown) {
            Headline::Asking
        } else if !self.works() {
            Headline::Halted
        } else if self.stalled(now).is_some() {
            Headline::Stalled
        } else if self.without_spare().is_some() {
            Headline::NoSpare
        } else {
            Headline::Works
        }
    }

    /// Time since the last block, if a block is overdue.
    fn stalled(&self, now: Moment) -> Option<Duration> {
        let newest = self.newest?;
        let block_time = self.answers().map(|answer| answer.block_time).max()?;
        let since = now.since(newest.at) + newest.age;
        (self.works() && since > block_time * SLOTS_MISSED).then_some(since)
    }

    /// A member with an open gate that sees no more healthy members than required.
    fn without_spare(&self) -> Option<&MemberAnswer> {
        let is_open = |answer: &&MemberAnswer| answer.status.gate == GateDecision::Open;
        self.answers().filter(is_open).find(|answer| answer.status.healthy <= answer.status.required)
    }

    /// Height of the highest block of any member.
    pub fn height(&self) -> u64 {
        self.answers().map(|answer| answer.status.height).max().unwrap_or(0)
    }

    /// Chain ID; empty while no member responds.
    pub fn chain(&self) -> &str {
        self.answers().next().map_or("", |answer| &answer.status.chain_id)
    }

    /// Why the federation does not work, or may soon not, as a sentence; `None` while all is well.
    pub fn trouble(&self, now: Moment) -> Option<String> {
        if self.works() {
            if let Some(since) = self.stalled(now) {
                let height = self.height();
                return Some(format!("no block for {} at height {height}; gates are open", duration(since)));
            }
            return self.without_spare().map(|answer| {
                let FederationView { node, healthy, required, members, .. } = &answer.status;
                let lost = members.iter().filter(|member| !member.healthy);
                let lost: Vec<_> =
                    lost.map(|member| clean(&format!("{}: {}", member.name, member.reason))).collect();
                let lost = if lost.is_empty() { String::new() } else { format!("; {}", lost.join("; ")) };
                format!(
                    "{node}: {healthy} healthy, {required} required, so that one more failure halts{lost}"
                )
            });
        }
        let closed = self.answers().find(|answer| answer.status.gate == GateDecision::Closed);
        let silent = self.rows.iter().filter(|row| row.reachability() == Reachability::Unreachable).count();
        Some(match closed {
            Some(answer) => format!("{}: {}", answer.status.node, answer.status.reason),
            None if self.rows.iter().any(|row| row.reachability() == Reachability::Unknown) => {
                "asking".to_owned()
            }
            None => format!("{silent} of {} members do not answer", self.rows.len()),
        })
    }

    /// Last responses of the members that respond.
    fn answers(&self) -> impl Iterator<Item = &MemberAnswer> {
        self.rows.iter().filter_map(Row::answer)
    }
}

impl Row {
    /// Name of the member, or its expected address.
    pub fn name(&self) -> &str {
        self.last.as_ref().map_or(self.target.label(), |answer| &answer.status.node)
    }

    /// Whether the member responds.
    pub fn reachability(&self) -> Reachability {
        match (&self.silence, &self.last) {
            (Some(_), _) => Reachability::Unreachable,
            (None, Some(_)) => Reachability::Up,
            (None, None) => Reachability::Unknown,
        }
    }

    /// Last response, while the member responds.
    pub fn answer(&self) -> Option<&MemberAnswer> {
        self.last.as_deref().filter(|_| self.silence.is_none())
    }

    /// Time since the member's last response.
    pub fn unheard(&self, now: Moment) -> Option<Duration> {
        self.last.as_ref().map(|_| now.since(self.at))
    }

    /// Number of links that are up, and of all links.
    pub fn links(&self) -> Option<(usize, usize)> {
        let links = &self.answer()?.status.links;
        Some((links.iter().filter(|link| link.state == "up").count(), links.len()))
    }

    /// What is wrong with the member, if anything.
    pub fn remark(&self) -> Option<String> {
        match (&self.silence, self.answer()) {
            (Some(why), _) => Some(why.clone()),
            (None, Some(answer)) if answer.status.gate == GateDecision::Closed => {
                Some(answer.status.reason.clone())
            }
            (None, Some(answer)) if !answer.ready.ready => {
                Some(format!("not ready: {}", answer.ready.reasons.join("; ")))
            }
            _ => None,
        }
    }
}

/// Cleans a text from a member: bounds its length and removes control characters that a terminal would obey.
pub fn clean(text: &str) -> String {
    let shown = text.chars().take(TEXT_MAX);
    shown.map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

/// Whether a terminal obeys the character or does not show it.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ops::view::{LinkView, MemberView};

    fn member(name: String) -> MemberView {
        MemberView {
            name,
            healthy: true,
            state: "up".to_owned(),
            through: None,
            incarnation: None,
            last_seen_ms: None,
            phi: None,
            clock_offset_ms: None,
            height: None,
            published: None,
            reason: String::new(),
        }
    }

    fn link(peer: String) -> LinkView {
        LinkView {
            peer,
            state: "up".to_owned(),
            dials: true,
            version: None,
            round_trip_us: None,
            dialled: 0,
            sessions: 1,
            queued: 0,
            queued_bytes: 0,
            sent: 0,
            sent_bytes: 0,
            received: 0,
            received_bytes: 0,
            refused: 0,
            dropped: BTreeMap::new(),
            lost: 0,
            last_loss: String::new(),
        }
    }

    /// The response of a member.
    pub(in crate::top) fn answer(name: &str, height: u64, gate: GateDecision, reason: &str) -> MemberAnswer {
        let open = gate == GateDecision::Open;
        MemberAnswer {
            status: FederationView {
                node: name.to_owned(),
                chain_id: "alys-testnet".to_owned(),
                incarnation: 1,
                uptime_ms: 3_725_000,
                height,
                gate,
                healthy: if open { 4 } else { 2 },
                required: 3,
                reason: reason.to_owned(),
                members: (1..=4).map(|n| member(format!("node-{n}"))).collect(),
                links: (2..=4).map(|n| link(format!("node-{n}"))).collect(),
                disk: None,
            },
            ready: ReadyView { ready: open, reasons: Vec::new() },
            restarts: 2,
            version: "0.1.0".to_owned(),
            block_time: Duration::from_secs(2),
            block_age: None,
            blocks: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Four members of which nothing is known.
    pub(in crate::top) fn board() -> Board {
        let target = |n: u16| {
            let target: Target = format!("127.0.0.1:{}", 3_000 + n).parse().expect("an address");
            target.named(&format!("node-{n}"))
        };
        Board::new((1..=4).map(target).collect())
    }

    /// Adds a response of a member, or a failed poll.
    pub(in crate::top) fn hear(board: &mut Board, member: usize, outcome: Result<MemberAnswer, &str>) {
        let outcome = outcome.map(Box::new).map_err(str::to_owned);
        board.absorb(Moment::at(Duration::from_secs(5)), Heard { member, outcome });
    }

    fn all_open(board: &mut Board) {
        for member in 0..4 {
            hear(board, member, Ok(answer(&format!("node-{}", member + 1), 7, GateDecision::Open, "4 of 4")));
        }
    }

    #[test]
    fn a_federation_works_while_as_many_as_required_answer_with_an_open_gate() {
        let mut board = board();
        assert_eq!(
            (board.works(), board.trouble(Moment::at(Duration::from_secs(5))).as_deref()),
            (false, Some("asking"))
        );
        all_open(&mut board);
        assert_eq!(
            (board.works(), board.trouble(Moment::at(Duration::from_secs(5))), board.height()),
            (true, None, 7)
        );
        hear(&mut board, 3, Err("connection refused"));
        assert!(board.works(), "three of four carry on");
        hear(&mut board, 2, Err("connection refused"));
        let closed = "2 of 4 healthy, 3 required";
        hear(&mut board, 0, Ok(answer("node-1", 9, GateDecision::Closed, closed)));
        assert!(!board.works());
        assert_eq!(
            board.trouble(Moment::at(Duration::from_secs(5))).as_deref(),
            Some("node-1: 2 of 4 healthy, 3 required")
        );
    }

    #[test]
    fn where_fewer_are_asked_than_are_required_all_of_them_must_have_an_open_gate() {
        let mut board = Board { rows: board().rows[..2].to_vec(), ..board() };
        hear(&mut board, 0, Ok(answer("node-1", 7, GateDecision::Open, "")));
        assert!(!board.works(), "the other one was not heard of");
        hear(&mut board, 1, Ok(answer("node-2", 7, GateDecision::Open, "")));
        assert_eq!((board.works(), board.trouble(Moment::at(Duration::from_secs(5)))), (true, None));
        hear(&mut board, 1, Err("timed out"));
        assert_eq!(
            board.trouble(Moment::at(Duration::from_secs(5))).as_deref(),
            Some("1 of 2 members do not answer")
        );
    }

    #[test]
    fn a_federation_that_does_not_answer_does_not_work() {
        let mut board = board();
        all_open(&mut board);
        for member in 0..4 {
            hear(&mut board, member, Err("timed out"));
        }
        assert_eq!(
            board.trouble(Moment::at(Duration::from_secs(5))).as_deref(),
            Some("4 of 4 members do not answer")
        );
        assert!(board.rows().iter().all(|row| row.reachability() == Reachability::Unreachable));
        assert_eq!(board.rows()[0].remark().as_deref(), Some("timed out"));
    }

    #[test]
    fn no_spare_member_and_no_block_are_said_before_the_federation_is_called_well() {
        let mut board = board();
        let at = |seconds| Moment::at(Duration::from_secs(seconds));
        assert_eq!(board.headline(at(5)), Headline::Asking);
        all_open(&mut board);
        assert_eq!((board.headline(at(11)), board.trouble(at(11))), (Headline::Works, None));
        // Reported at 5 s; three slots later it is overdue.
        assert_eq!(board.headline(at(12)), Headline::Stalled);
        assert_eq!(board.trouble(at(12)).as_deref(), Some("no block for 7.0 s at height 7; gates are open"));
        let mut without = answer("node-1", 8, GateDecision::Open, "3 of 4 healthy");
        without.status.healthy = 3;
        (without.status.members[3].healthy, without.status.members[3].reason) = (false, "silent".to_owned());
        hear(&mut board, 0, Ok(without.clone()));
        assert_eq!(board.headline(at(6)), Headline::NoSpare);
        let trouble = board.trouble(at(6)).expect("it is said");
        assert_eq!(trouble, "node-1: 3 healthy, 3 required, so that one more failure halts; node-4: silent");
        assert!(board.headline(at(6)).works() && !board.headline(at(60)).works());
        // With a single poll, the age of the last block counts.
        let aged = MemberAnswer {
            block_age: Some(Duration::from_secs(9)),
            ..answer("node-1", 9, GateDecision::Open, "")
        };
        let board = Board::of_one("127.0.0.1:3001".parse().expect("an address"), Box::new(aged), at(0));
        assert_eq!(board.headline(at(0)), Headline::Stalled);
        let halted = answer("node-1", 9, GateDecision::Closed, "2 of 4");
        let board = Board::of_one("127.0.0.1:3001".parse().expect("an address"), Box::new(halted), at(0));
        assert_eq!(board.headline(at(60)), Headline::Halted);
    }

    #[test]
    fn intervals_are_between_blocks_that_follow_each_other_as_first_decided() {
        let mut board = board();
        let block = |height, at_ms| Block { height, at_ms, proposer: "node-1".to_owned(), round: 0 };
        let blocks =
            [vec![block(1, 1_000), block(2, 3_010), block(4, 9_000)], vec![block(2, 3_000), block(3, 5_500)]];
        for (member, blocks) in blocks.into_iter().enumerate() {
            hear(&mut board, member, Ok(MemberAnswer { blocks, ..answer("x", 4, GateDecision::Open, "") }));
        }
        let millis: Vec<_> = board.intervals().iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [2_000, 2_500, 3_500]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_routine_is_left_out() {
        let mut board = board();
        let event = |at_ms: u64, kind: &str| EventView {
            id: String::new(),
            fields: std::collections::BTreeMap::new(),
            at_ms,
            kind: kind.to_owned(),
            message: "it happened".to_owned(),
            inputs: None,
            trace_id: None,
        };
        let block = |height| Block { height, at_ms: height, proposer: String::new(), round: 0 };
        let mut given = answer("node-1", 7, GateDecision::Open, "");
        given.events = (0..1_000).map(|n| event(n, "link_down")).collect();
        given.events.extend((0..1_000).map(|n| event(2_000 + n, "round_started")));
        given.blocks = (1..=1_000).map(block).collect();
        hear(&mut board, 0, Ok(given.clone()));
        hear(&mut board, 0, Ok(given));
        assert_eq!((board.events().count(), board.blocks().count()), (EVENTS_MAX, BLOCKS_MAX));
        assert_eq!(board.events().next_back().map(|told| told.at_ms), Some(999));
        assert_eq!(board.blocks().next_back().map(|block| block.height), Some(1_000));
    }

    #[test]
    fn no_text_of_a_member_reaches_a_terminal_as_an_order() {
        let mut board = board();
        let long = "x".repeat(10_000);
        hear(
            &mut board,
            0,
            Ok(answer("node\u{1b}[2J", 7, GateDecision::Closed, &format!("\u{202e}\r\n{long}"))),
        );
        hear(&mut board, 1, Err("\u{1b}]0;title\u{7}"));
        let [first, second, ..] = board.rows() else { panic!("four rows") };
        assert_eq!(first.name(), "node [2J");
        for text in [first.remark(), second.remark()] {
            let text = text.expect("a remark");
            assert!(text.len() <= TEXT_MAX && !text.contains(char::is_control), "{text}");
        }
    }
}
