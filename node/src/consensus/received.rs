//! Keeps the first statement of each author for each height, round and step, with its verified signature.
//!
//! There are three uses. A second, different statement for the same height, round and step is an [`Equivocation`]. The
//! protocol does not verify a signature again that was verified here. And what a member signed is known from what
//! **others received**, because its own journal can not contradict itself.
//!
//! Memory is bounded per author, so that no author uses another's quota: [`HEIGHTS_KEPT`] heights, and
//! [`STATEMENTS_PER_HEIGHT`] statements of each. Further statements are not remembered, and the protocol verifies them
//! itself.

use std::collections::{BTreeMap, BTreeSet};

use alys_cluster::clock::WallTime;

use super::context::{Statement, Step};
use super::evidence::{Equivocation, Signed};
use super::guard::Signer;
use super::message::ConsensusWire;
use crate::genesis::Genesis;
use crate::keys::{PublicKey, Signature};

/// Heights, up to the head, of which statements are kept.
pub const HEIGHTS_KEPT: u64 = 128;
/// Heights above the head for which messages are accepted. A member that is further behind fetches blocks instead.
pub const HEIGHTS_AHEAD: u64 = 2;
/// Statements kept per author and height: 32 rounds.
pub const STATEMENTS_PER_HEIGHT: usize = 96;
/// Of these, the proposals kept with their block, which is large.
const BLOCKS_PER_HEIGHT: usize = 4;

/// A statement and when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedStatement {
    /// Index of the author in genesis.
    pub author: usize,
    /// The statement and its signature.
    pub signed: Signed,
    /// Wall-clock time at which it was first received.
    pub at: WallTime,
}

/// The new content of a message.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Whether the message holds a statement that was not known.
    pub is_new: bool,
    /// Contradictions, each with the message that carried the first statement, if it is still kept.
    pub equivocations: Vec<(Equivocation, Option<ConsensusWire>)>,
    /// Statements signed with this member's key that its journal does not hold.
    pub unknown_own: Vec<Statement>,
}

/// The message holds a signature that is not its author's, or names an author that is not a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

struct Entry {
    signed: Signed,
    at: WallTime,
    /// Message that carried the statement; kept until the height above is decided.
    message: Option<ConsensusWire>,
}

type Places = BTreeMap<(u32, Step), Entry>;

/// Statements of all members; see the module documentation.
pub struct Received {
    chain_id: String,
    keys: Vec<PublicKey>,
    own: usize,
    /// Received statements, by author and then by height.
    statements: Vec<BTreeMap<u64, Places>>,
    /// Authors and heights of which an equivocation was reported.
    contradicted: BTreeSet<(usize, u64)>,
}

impl Received {
    /// Creates an empty store for the member at index `own`.
    pub fn new(genesis: &Genesis, own: usize) -> Self {
        let keys: Vec<_> = genesis.members().iter().map(|member| member.public_key).collect();
        let statements = keys.iter().map(|_| BTreeMap::new()).collect();
        let chain_id = genesis.chain_id().to_owned();
        Self { chain_id, keys, own, statements, contradicted: BTreeSet::new() }
    }

    /// Verifies and remembers the statements of `message`. `head` is the height of the chain's head; `signer` knows
    /// what this member has signed.
    pub fn take(
        &mut self,
        message: &ConsensusWire,
        head: u64,
        at: WallTime,
        signer: &dyn Signer,
    ) -> Result<Arrival, Forged> {
        let mut arrival = Arrival::default();
        let height = message.height();
        if height + HEIGHTS_KEPT <= head || height > head + HEIGHTS_AHEAD {
            return Ok(arrival);
        }
        let own_signed = signer.signed_at(height);
        for (author, signed) in message.statements() {
            if author == self.own && own_signed.contains(&signed.statement) {
                continue;
            }
            let key = self.keys.get(author).ok_or(Forged)?;
            let place = (signed.statement.round, signed.statement.step);
            let places = self.statements[author].entry(height).or_default();
            let known = places.get(&place);
            if known.is_some_and(|known| known.signed == signed) {
                continue;
            }
            let has_room = known.is_some() || places.len() < STATEMENTS_PER_HEIGHT;
            let is_told = known.is_some() && self.contradicted.contains(&(author, height));
            if !has_room || is_told {
                continue;
            }
            if !key.verify(&signed.statement.bytes(&self.chain_id), &signed.signature) {
                return Err(Forged);
            }
            arrival.is_new = true;
            if let Some(known) = known {
                // A key has only one valid signature per message, so the statements differ.
                let first = known.signed;
                let equivocation = Equivocation { author: author as u8, first, second: signed, seen: at };
                arrival.equivocations.push((equivocation, known.message.clone()));
                self.contradicted.insert((author, height));
            } else {
                let is_offer = |message: &ConsensusWire| matches!(message, ConsensusWire::Proposal(..));
                let blocks = places
                    .values()
                    .filter_map(|entry| entry.message.as_ref())
                    .filter(|m| is_offer(m))
                    .count();
                let is_kept = height >= head
                    && message.author() == Some(author)
                    && (!is_offer(message) || blocks < BLOCKS_PER_HEIGHT);
                let message = is_kept.then(|| message.clone());
                places.insert(place, Entry { signed, at, message });
            }
            if author == self.own {
                arrival.unknown_own.push(signed.statement);
            }
        }
        Ok(arrival)
    }

    /// Whether this exact signature of `author` over `statement` was verified here.
    pub fn holds(&self, author: usize, statement: &Statement, signature: &Signature) -> bool {
        let heights = self.statements.get(author);
        let places = heights.and_then(|heights| heights.get(&statement.height));
        let entry = places.and_then(|places| places.get(&(statement.round, statement.step)));
        entry.is_some_and(|entry| entry.signed == Signed { statement: *statement, signature: *signature })
    }

    /// Proposal of `author` for a round of an undecided height, or of the last decided one.
    pub fn proposal(&self, author: usize, height: u64, round: u32) -> Option<&ConsensusWire> {
        self.statements.get(author)?.get(&height)?.get(&(round, Step::Proposal))?.message.as_ref()
    }

    /// Votes received for a round of an undecided height, or of the last decided one.
    pub fn votes(&self, height: u64, round: u32) -> impl Iterator<Item = &ConsensusWire> {
        let steps = (round, Step::Prevote)..=(round, Step::Precommit);
        let heights = self.statements.iter().filter_map(move |heights| heights.get(&height));
        heights
            .flat_map(move |places| places.range(steps.clone()))
            .filter_map(|(_, entry)| entry.message.as_ref())
    }

    /// Drops old entries after the head moved to height `head`.
    pub fn decided(&mut self, head: u64) {
        let oldest = (head + 1).saturating_sub(HEIGHTS_KEPT);
        for heights in &mut self.statements {
            *heights = heights.split_off(&oldest);
            for (_, places) in heights.range_mut(..head).rev() {
                // Lower heights were stripped when they were decided.
                if places.values().all(|entry| entry.message.is_none()) {
                    break;
                }
                for entry in places.values_mut() {
                    entry.message = None;
                }
            }
        }
        self.contradicted.retain(|(_, height)| *height >= oldest);
    }

    /// Statements received for heights from `from` on, in the order of heights.
    pub fn since(&self, from: u64) -> Vec<ReceivedStatement> {
        let of_author = |(author, heights): (usize, &BTreeMap<u64, Places>)| {
            let entries = heights.range(from..).flat_map(|(_, places)| places.values());
            entries
                .map(|entry| ReceivedStatement { author, signed: entry.signed, at: entry.at })
                .collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.statements.iter().enumerate().flat_map(of_author).collect();
        all.sort_by_key(|received| (received.signed.statement.height, received.at, received.author));
        all
    }
}

#[cfg(test)]
mod tests {
    use malachite_types::{NilOrVal, Round, VoteType};

    use super::*;
    use crate::consensus::BlockHash;
    use crate::consensus::context::{BlockVote, ConsensusHeight, MemberIndex};
    use crate::consensus::guard::SigningRefusal;
    use crate::genesis::tests::{genesis, secret};

    /// A signer that has signed these statements, and refuses all others.
    struct Journalled(Vec<Statement>);

    impl Signer for Journalled {
        fn sign(&mut self, statement: &Statement) -> Result<Signature, SigningRefusal> {
            Err(SigningRefusal::Regression(*statement))
        }

        fn signed_at(&self, height: u64) -> Vec<Statement> {
            self.0.iter().filter(|statement| statement.height == height).copied().collect()
        }
    }

    fn vote(voter: u8, height: u64, round: u32, tag: Option<u8>) -> ConsensusWire {
        let vote = BlockVote {
            height: ConsensusHeight(height),
            round: Round::new(round),
            kind: VoteType::Prevote,
            block: tag.map_or(NilOrVal::Nil, |tag| NilOrVal::Val(BlockHash([tag; 32]))),
            voter: MemberIndex(voter),
        };
        let signature = secret(voter).sign(&Statement::of_vote(&vote).bytes(genesis().chain_id()));
        ConsensusWire::Vote(vote, signature)
    }

    /// Lets member 0, whose chain ends at height 10, receive a message.
    fn take(received: &mut Received, message: &ConsensusWire) -> Result<Arrival, Forged> {
        received.take(message, 10, WallTime(5), &Journalled(Vec::new()))
    }

    #[test]
    fn a_second_statement_that_differs_is_an_equivocation_and_told_once_a_height() {
        let mut received = Received::new(&genesis(), 0);
        assert!(take(&mut received, &vote(1, 11, 0, None)).expect("signed").is_new);
        assert!(!take(&mut received, &vote(1, 11, 0, None)).expect("signed").is_new, "a repetition");
        let second = take(&mut received, &vote(1, 11, 0, Some(1))).expect("signed");
        let [(equivocation, first)] = &second.equivocations[..] else { panic!("{second:?}") };
        assert!(equivocation.verify(&genesis()));
        assert_eq!((equivocation.author, first), (1, &Some(vote(1, 11, 0, None))));
        let third = take(&mut received, &vote(1, 11, 0, Some(2))).expect("signed");
        assert!(third.equivocations.is_empty());
        // A late contradiction counts too, although the height is decided.
        take(&mut received, &vote(2, 9, 0, None)).expect("signed");
        assert_eq!(take(&mut received, &vote(2, 9, 0, Some(1))).expect("signed").equivocations.len(), 1);
    }

    #[test]
    fn forged_signatures_and_strangers_are_refused_and_not_remembered() {
        let mut received = Received::new(&genesis(), 0);
        let ConsensusWire::Vote(honest, signature) = vote(1, 11, 0, None) else { panic!("a vote") };
        let forged = ConsensusWire::Vote(BlockVote { voter: MemberIndex(2), ..honest.clone() }, signature);
        let stranger = ConsensusWire::Vote(BlockVote { voter: MemberIndex(9), ..honest }, signature);
        for message in [forged, stranger] {
            assert_eq!(take(&mut received, &message).err(), Some(Forged));
        }
        assert_eq!(received.since(0), []);
    }

    #[test]
    fn a_statement_in_the_own_name_is_told_only_if_the_journal_does_not_know_it() {
        let mut received = Received::new(&genesis(), 0);
        let message = vote(0, 11, 0, None);
        let statement = message.statement_of(0).expect("its own");
        let known = received.take(&message, 10, WallTime(5), &Journalled(vec![statement])).expect("signed");
        assert_eq!(known.unknown_own, []);
        assert_eq!(take(&mut received, &message).expect("signed").unknown_own, [statement]);
        assert_eq!(take(&mut received, &message).expect("signed").unknown_own, [], "told once");
    }

    #[test]
    fn what_is_kept_is_bounded_for_each_author_and_by_height() {
        let mut received = Received::new(&genesis(), 0);
        for round in 0..STATEMENTS_PER_HEIGHT as u32 + 9 {
            take(&mut received, &vote(1, 11, round, None)).expect("signed");
        }
        take(&mut received, &vote(2, 11, 0, None)).expect("signed");
        take(&mut received, &vote(2, 13, 0, None)).expect("not taken");
        assert_eq!(received.since(0).len(), STATEMENTS_PER_HEIGHT + 1);
        let ConsensusWire::Vote(_, signature) = vote(2, 11, 0, None) else { panic!("a vote") };
        let statement = vote(2, 11, 0, None).statement_of(2).expect("its own");
        assert!(received.holds(2, &statement, &signature) && !received.holds(1, &statement, &signature));
        assert_eq!(received.votes(11, 0).count(), 2);
        received.decided(11);
        assert_eq!(received.votes(11, 0).count(), 2, "whoever is late is answered still");
        received.decided(12);
        assert_eq!((received.votes(11, 0).count(), received.since(11).len()), (0, STATEMENTS_PER_HEIGHT + 1));
        received.decided(11 + HEIGHTS_KEPT);
        assert_eq!(received.since(0), []);
    }
}
