//! Defines the configured members, and how many of them a decision needs.

use crate::id::NodeId;

/// Every member of the federation, in an order common to all members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    members: Vec<NodeId>,
    own: usize,
}

impl Roster {
    /// Creates the roster as seen by `own`; `None` if `own` is not in it.
    pub fn new(members: Vec<NodeId>, own: &NodeId) -> Option<Self> {
        let own = members.iter().position(|member| member == own)?;
        Some(Self { members, own })
    }

    /// This member.
    pub fn own(&self) -> &NodeId {
        &self.members[self.own]
    }

    /// All members.
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// All members except this one.
    pub fn peers(&self) -> impl Iterator<Item = &NodeId> {
        self.members.iter().enumerate().filter(|(index, _)| *index != self.own).map(|(_, member)| member)
    }

    /// Whether `node` is a member other than this one.
    pub fn is_peer(&self, node: &NodeId) -> bool {
        node != self.own() && self.members.contains(node)
    }

    /// Number of members that must be healthy: more than two thirds of the configured ones, so 3 of 4.
    pub fn required(&self) -> usize {
        required(self.members.len())
    }

    /// Number of members that may be faulty: less than a third, so 1 of 4.
    pub fn tolerated(&self) -> usize {
        self.members.len() - self.required()
    }
}

/// Number of `members` that must be healthy: more than two thirds.
pub fn required(members: usize) -> usize {
    members * 2 / 3 + 1
}

/// The highest value that at least one honest member claims or exceeds, if up to `tolerated` of them may lie.
pub fn believed<T: Ord>(mut claims: Vec<T>, tolerated: usize) -> Option<T> {
    claims.sort_unstable_by(|one, other| other.cmp(one));
    claims.into_iter().nth(tolerated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_is_more_than_two_thirds() {
        for (members, required) in [(4, 3), (5, 4), (6, 5), (7, 5), (10, 7), (13, 9)] {
            let names: Vec<_> =
                (1..=members).map(|n| NodeId::new(&format!("node-{n}")).expect("a name")).collect();
            let own = names[0].clone();
            assert_eq!(Roster::new(names, &own).map(|r| r.required()), Some(required), "{members} members");
        }
    }
}
