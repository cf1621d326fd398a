//! Sorts and paginates the results of queries.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::entry::ActorRegistryEntry;
use super::lifecycle::ActorLifecycleState;
use crate::clock::Moment;
use crate::id::ActorName;

/// Maximum size of a page.
pub const LIMIT_MAX: usize = 1_000;
/// Default size of a page.
pub const LIMIT: usize = 100;

/// Sort order of actors; ties are sorted by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// Most important first.
    Priority,
    /// Longest active first, inactive actors last.
    Uptime,
    /// Most failures first.
    Failures,
}

impl Order {
    /// All orders.
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

    /// Primary sort key; the smallest comes first.
    fn rank(self, entry: &ActorRegistryEntry) -> u64 {
        let standing = &entry.standing;
        match self {
            Self::Name => 0,
            Self::Priority => entry.registration().priority as u64,
            // The start time, which unlike the uptime does not change, so the pages stay consistent.
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

/// Why a page request was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PageError {
    /// The order is unknown.
    #[error("the order is {found:?}; expected name, priority, uptime or failures")]
    Order {
        /// Requested order.
        found: String,
    },
    /// The limit is zero or too large.
    #[error("the limit is {limit}; expected 1 to {LIMIT_MAX}")]
    Limit {
        /// Requested limit.
        limit: usize,
    },
    /// The cursor is invalid.
    #[error("the cursor is {found:?}; expected one that an earlier page ended with")]
    Cursor {
        /// Given cursor.
        found: String,
    },
}

/// Position at the end of a page. It stays valid when the actor at this position is removed.
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

/// A page request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Sort order.
    pub order: Order,
    /// Maximum number of entries, 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// Cursor of the previous page.
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

    /// Starts filling this page with entries in any order.
    pub(super) fn turn(&self) -> PageTurn<'_> {
        PageTurn { page: self, kept: BTreeMap::new(), matched: 0, is_more: false }
    }

    /// This page of `entries`, which can be in any order.
    pub fn of(&self, entries: impl IntoIterator<Item = ActorRegistryEntry>) -> QueryPage {
        let mut turn = self.turn();
        entries.into_iter().for_each(|entry| turn.take(entry));
        turn.end()
    }
}

/// A page that is being filled.
pub(super) struct PageTurn<'a> {
    page: &'a Page,
    /// Entries in order; the last one is dropped when the page overflows.
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
        // An actor removed and registered again meanwhile may come twice; a page by name keeps one of them.
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

/// One page of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPage {
    /// Actors on this page, in order.
    pub entries: Vec<ActorRegistryEntry>,
    /// Number of matching actors on all pages together.
    pub matched: usize,
    /// Cursor for the next page; `None` on the last page.
    pub next: Option<Cursor>,
}
