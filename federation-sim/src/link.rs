//! A directed link between two members: `node-1>node-3` carries what node-1 sends to node-3.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// One direction between two members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Link {
    /// Sender.
    pub from: String,
    /// Receiver.
    pub to: String,
}

impl Link {
    /// Creates the link from `from` to `to`.
    pub fn new(from: &str, to: &str) -> Self {
        Self { from: from.to_owned(), to: to.to_owned() }
    }

    /// The opposite direction.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { from: self.to.clone(), to: self.from.clone() }
    }

    /// Every directed link between members of different groups, both ways.
    pub fn between(groups: &[Vec<String>; 2]) -> Vec<Self> {
        let [left, right] = groups;
        let pairs = left.iter().flat_map(|a| right.iter().map(move |b| Self::new(a, b)));
        pairs.flat_map(|link| [link.reversed(), link].into_iter().rev()).collect()
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.from, self.to)
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('>') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() && from != to => Ok(Self::new(from, to)),
            _ => Err(format!("{text:?} is no link; expected two members such as \"node-1>node-3\"")),
        }
    }
}

impl TryFrom<String> for Link {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_reads_back_as_it_is_written() {
        assert_eq!("node-1>node-3".parse(), Ok(Link::new("node-1", "node-3")));
        assert_eq!(Link::new("node-1", "node-3").to_string(), "node-1>node-3");
    }

    #[test]
    fn what_is_no_link_is_refused_with_an_example() {
        for bad in ["", "node-1", "node-1>", ">node-1", "node-1>node-1"] {
            let error = bad.parse::<Link>().expect_err(bad);
            assert!(error.contains("node-1>node-3"), "{error}");
        }
    }

    #[test]
    fn links_between_groups_go_both_ways() {
        let groups = [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]];
        let links: Vec<_> = Link::between(&groups).iter().map(Link::to_string).collect();
        assert_eq!(links, ["a>c", "c>a", "b>c", "c>b"]);
    }
}
