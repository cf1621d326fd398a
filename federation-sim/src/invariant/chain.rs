//! Invariants of chains: linked, growing, and identical on all members at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::InvariantResult;
use crate::record::Record;

/// No two members, and no member at two times, have different blocks at one height.
pub(super) fn one_block_per_height(record: &Record, finding: &mut InvariantResult) {
    let mut first: BTreeMap<u64, (&str, &str)> = BTreeMap::new();
    for (name, block) in record.blocks() {
        let (other, hash) = *first.entry(block.height).or_insert((name, &block.hash));
        finding.fact(block.hash == hash, || {
            format!("height {}: {other} has {hash}, {name} has {}", block.height, block.hash)
        });
    }
}

/// The height a member reports never decreases, even across restarts.
pub(super) fn heights_never_go_back(record: &Record, finding: &mut InvariantResult) {
    for (name, member) in &record.members {
        finding.observations += member.height_readings;
        for pair in member.heights.windows(2) {
            if pair[1].height < pair[0].height {
                let [before, after] = [pair[0], pair[1]];
                finding.violations.push(format!(
                    "{name} went from height {} (incarnation {}) to {} (incarnation {})",
                    before.height, before.incarnation, after.height, after.incarnation
                ));
            }
        }
    }
}

/// Each block names the block below as its parent; the first block names the member's genesis.
pub(super) fn chain_linked(record: &Record, finding: &mut InvariantResult) {
    for (name, member) in &record.members {
        for block in member.blocks.values().flatten() {
            let parents: Vec<&str> = match block.height.checked_sub(1) {
                None => {
                    finding.fact(false, || format!("{name} has a block {} at height 0", block.hash));
                    continue;
                }
                Some(0) if member.genesis.is_empty() => continue,
                Some(0) => member.genesis.iter().map(|genesis| genesis.hash.as_str()).collect(),
                Some(below) => match member.blocks.get(&below) {
                    Some(blocks) => blocks.iter().map(|parent| parent.hash.as_str()).collect(),
                    None => continue,
                },
            };
            finding.fact(parents.contains(&block.parent.as_str()), || {
                let (height, parent) = (block.height, &block.parent);
                format!("{name}: the parent of block {height} is {parent}; expected {}", parents.join(" or "))
            });
        }
    }
}

/// Every member in the final observation has, up to its own height, every block that any member ever had; and the
/// highest block ever observed is not above all of them.
pub(super) fn no_finalised_block_lost(record: &Record, finding: &mut InvariantResult) {
    let Some(closing) = record.closing.as_ref().filter(|closing| !closing.members.is_empty()) else {
        return;
    };
    let ever: BTreeSet<_> = record.blocks().map(|(_, block)| (block.height, block.hash.as_str())).collect();
    for (name, member) in &closing.members {
        for (height, hash) in ever.iter().filter(|(height, _)| *height <= member.height) {
            let found = member.hashes.get(height).map_or("nothing", String::as_str);
            finding.fact(found == *hash, || {
                format!("height {height}: {hash} was finalised; at the end {name} has {found}")
            });
        }
    }
    let highest_at_end = closing.members.values().map(|member| member.height).max().unwrap_or(0);
    if let Some((height, hash)) = ever.last() {
        finding.fact(*height <= highest_at_end, || {
            format!("block {height} ({hash}) was finalised; at the end the highest is {highest_at_end}")
        });
    }
}

/// No chain contains a transaction twice.
pub(super) fn transactions_at_most_once(record: &Record, finding: &mut InvariantResult) {
    for (name, member) in &record.members {
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        // At a height with contradicting blocks the first counts; another invariant reports the contradiction.
        for block in member.blocks.values().filter_map(|blocks| blocks.first()) {
            for transaction in &block.transactions {
                let before = first.insert(transaction, block.height);
                finding.fact(before.is_none(), || {
                    let below = before.unwrap_or_default();
                    format!("{name} has {transaction} in blocks {below} and {}", block.height)
                });
            }
        }
    }
}

/// Members that run at the end have the same block at their common height. Unless a link was still cut, none is more
/// than one block ahead of another.
pub(super) fn agreement_after_healing(record: &Record, finding: &mut InvariantResult) {
    let Some(closing) = record.closing.as_ref().filter(|closing| !closing.members.is_empty()) else {
        return;
    };
    let heights = || closing.members.values().map(|member| member.height);
    let (lowest, highest) = (heights().min().unwrap_or(0), heights().max().unwrap_or(0));
    let mut hashes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, member) in &closing.members {
        finding.observations += 1;
        let hash = member.hashes.get(&lowest).map_or("nothing", String::as_str);
        hashes.entry(hash).or_default().push(name);
    }
    if hashes.len() > 1 || (lowest > 0 && hashes.contains_key("nothing")) {
        finding.violations.push(format!("at height {lowest}: {hashes:?}"));
    }
    if closing.connected && highest - lowest > 1 {
        let heights: Vec<_> =
            closing.members.iter().map(|(name, member)| format!("{name} at {}", member.height)).collect();
        finding.violations.push(format!("heights are more than 1 apart: {}", heights.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use alys_node::ops::view::{BlockView, GateDecision};

    use crate::invariant::certificate::tests::with_genesis;
    use crate::invariant::tests::{after, broken, closing, holds};
    use crate::record::tests::{block, empty, give, say};

    #[test]
    fn two_blocks_at_one_height_are_found_between_members_and_within_one() {
        let mut record = empty();
        give(&mut record, "node-1", block(1, 1));
        give(&mut record, "node-2", block(1, 1));
        holds(&record, "one-block-per-height", 2);
        give(&mut record, "node-2", block(1, 2));
        broken(&record, "one-block-per-height", "height 1: node-1 has 01");
    }

    #[test]
    fn a_height_that_falls_is_found() {
        let mut record = empty();
        say(&mut record, "node-1", 1, 5, GateDecision::Open);
        say(&mut record, "node-1", 2, 6, GateDecision::Open);
        holds(&record, "heights-never-go-back", 2);
        say(&mut record, "node-1", 3, 5, GateDecision::Open);
        broken(&record, "heights-never-go-back", "node-1 went from height 6 (incarnation 1) to 5");
    }

    #[test]
    fn a_parent_that_is_not_the_block_below_is_found() {
        let mut record = empty();
        give(&mut record, "node-1", block(1, 1));
        give(&mut record, "node-1", block(2, 1));
        holds(&record, "chain-linked", 1);
        give(&mut record, "node-1", block(3, 2));
        broken(&record, "chain-linked", "the parent of block 3");
    }

    #[test]
    fn a_first_block_on_another_genesis_is_found() {
        let mut record = with_genesis();
        let on = |parent: &str| BlockView { parent: parent.repeat(32), ..block(1, 1) };
        give(&mut record, "node-1", on("33"));
        holds(&record, "chain-linked", 1);
        give(&mut record, "node-2", on("ff"));
        broken(&record, "chain-linked", "node-2: the parent of block 1");
    }

    #[test]
    fn a_finalised_block_that_is_gone_is_found() {
        let name = "no-finalised-block-lost";
        let mut record = after(empty(), "do='restart'");
        give(&mut record, "node-1", block(1, 1));
        give(&mut record, "node-1", block(2, 1));
        closing(&mut record, &[("node-1", 2, 1), ("node-2", 3, 1)], true);
        holds(&record, name, 5);
        closing(&mut record, &[("node-1", 2, 2)], true);
        broken(&record, name, "was finalised; at the end node-1 has 02");
        closing(&mut record, &[("node-1", 1, 1)], true);
        broken(&record, name, "at the end the highest is 1");
    }

    #[test]
    fn a_transaction_included_twice_is_found() {
        let name = "transactions-at-most-once";
        let mut record = after(empty(), "do='submit'\nmember='node-1'\ncount=1");
        let with = |height| BlockView { transactions: vec!["aa".to_owned()], ..block(height, 1) };
        give(&mut record, "node-1", with(1));
        give(&mut record, "node-2", with(1));
        holds(&record, name, 2);
        give(&mut record, "node-1", with(2));
        broken(&record, name, "node-1 has aa in blocks 1 and 2");
    }

    #[test]
    fn members_that_disagree_at_the_end_are_found() {
        let name = "agreement-after-healing";
        let mut record = empty();
        closing(&mut record, &[("node-1", 3, 1), ("node-2", 4, 1)], true);
        holds(&record, name, 2);
        closing(&mut record, &[("node-1", 3, 1), ("node-2", 4, 2)], true);
        broken(&record, name, "at height 3");
        closing(&mut record, &[("node-1", 2, 1), ("node-2", 4, 1)], true);
        broken(&record, name, "more than 1 apart");
        closing(&mut record, &[("node-1", 2, 1), ("node-2", 4, 1)], false);
        holds(&record, name, 2);
    }
}
