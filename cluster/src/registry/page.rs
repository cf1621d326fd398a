//! Answers in order, a page at a time.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::entry::ActorRegistryEntry;
use super::lifecycle::ActorLifecycleState;
use crate::clock::Moment;
use crate::id::ActorName;

/// The longest page.
pub const LIMIT_MAX: usize = 1_000;
/// The page of those who do not say how long it should be.
pub const LIMIT: usize = 100;

/// Which actors come first. Those that are equal in this are in the order of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// The most important first.
    Priority,
    /// Those that have been active longest first, those that are not active last.
    Uptime,
    /// Those that failed most often first.
    Failures,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Name, Self::Priority, Self::Uptime, Self::Failures];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Priority => "priority",
            Self::Uptime => "uptime",
            Self::Failures => "failures",
        }
    }

    /// What is compared before the name; the least comes first.
    fn rank(self, entry: &ActorRegistryEntry) -> u64 {
        let standing = &entry.standing;
        match self {
            Self::Name => 0,
            Self::Priority => entry.registration().priority as u64,
            // That it does not change as time passes keeps the pages in order.
            Self::Uptime if standing.state == ActorLifecycleState::Active => {
                standing.since.since(Moment::ORIGIN).as_millis() as u64
            }
            Self::Uptime => u64::MAX,
            Self::Failures => u64::MAX - standing.failures,
        }
    }
}

impl FromStr for Order {
    type Err = PageError;

    fn from_str(text: &str) -> Result<Self, PageError> {
        let wrong = || PageError::Order { found: text.chars().take(64).collect() };
        Self::ALL.into_iter().find(|order| order.as_str() == text).ok_or_else(wrong)
    }
}

/// A page that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PageError {
    /// There is no such order.
    #[error("the order is {found:?}; expected name, priority, uptime or failures")]
    Order {
        /// What was asked for.
        found: String,
    },
    /// The page is too long, or empty.
    #[error("the limit is {limit}; expected 1 to {LIMIT_MAX}")]
    Limit {
        /// What was asked for.
        limit: usize,
    },
    /// The cursor is none.
    #[error("the cursor is {found:?}; expected one that an earlier page ended with")]
    Cursor {
        /// What was given.
        found: String,
    },
}

/// Where a page ended. It stays valid when the actor it ended with is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    rank: u64,
    name: ActorName,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rank, self.name)
    }
}

impl FromStr for Cursor {
    type Err = PageError;

    fn from_str(text: &str) -> Result<Self, PageError> {
        let read = || {
            let (rank, name) = text.split_once(':')?;
            Some(Self { rank: rank.parse().ok()?, name: name.parse().ok()? })
        };
        read().ok_or_else(|| PageError::Cursor { found: text.chars().take(96).collect() })
    }
}

/// Which part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Who comes first.
    pub order: Order,
    /// How many at most, 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

impl Default for Page {
    fn default() -> Self {
        Self { order: Order::Name, limit: LIMIT, after: None }
    }
}

impl Page {
    /// Checks the limit.
    pub fn validate(&self) -> Result<(), PageError> {
        let limit = self.limit;
        if (1..=LIMIT_MAX).contains(&limit) { Ok(()) } else { Err(PageError::Limit { limit }) }
    }

    /// Takes entries, in any order, and keeps those of this page.
    pub(super) fn turn(&self) -> PageTurn<'_> {
        PageTurn { page: self, kept: BTreeMap::new(), matched: 0, is_more: false }
    }

    /// This page of `entries`, which come in any order.
    pub fn of(&self, entries: impl IntoIterator<Item = ActorRegistryEntry>) -> QueryPage {
        let mut turn = self.turn();
        entries.into_iter().for_each(|entry| turn.take(entry));
        turn.end()
    }
}

/// A page being filled.
pub(super) struct PageTurn<'a> {
    page: &'a Page,
    /// In order; the last leaves when a better one comes.
    kept: BTreeMap<Cursor, ActorRegistryEntry>,
    matched: usize,
    is_more: bool,
}

impl PageTurn<'_> {
    pub(super) fn take(&mut self, entry: ActorRegistryEntry) {
        self.matched += 1;
        let place = Cursor { rank: self.page.order.rank(&entry), name: entry.name().clone() };
        if self.page.after.as_ref().is_some_and(|after| place <= *after) {
            return;
        }
        // Whoever left and came back meanwhile may be met twice, and counts once on a page by name.
        self.kept.insert(place, entry);
        if self.kept.len() > self.page.limit {
            self.is_more = true;
            self.kept.pop_last();
        }
    }

    pub(super) fn end(self) -> QueryPage {
        let next = self.kept.last_key_value().filter(|_| self.is_more).map(|(last, _)| last.clone());
        let mut names = HashSet::new();
        let entries = self.kept.into_values().filter(|entry| names.insert(entry.name().clone())).collect();
        QueryPage { entries, matched: self.matched, next }
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPage {
    /// The actors, in order.
    pub entries: Vec<ActorRegistryEntry>,
    /// How many the query holds for, on all pages together.
    pub matched: usize,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}
