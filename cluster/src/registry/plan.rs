//! Plans a query: starts with the index that yields the fewest actors.
//!
//! For conditions that must all hold, the most selective index is scanned and the others are intersected before the
//! actors themselves are read. For conditions of which any may hold, the union of their indexes is scanned, if each of
//! them has one. Conditions without an index (state, health, uptime, metadata) are checked on the remaining actors.

use std::fmt;
use std::sync::Arc;

use super::index::{IdSet, Indexes};
use super::pattern::Pattern;
use super::query::ActorQuery;

/// Access path to the candidates of a query.
#[derive(Clone, Debug)]
pub(super) enum AccessPath {
    /// All actors.
    FullScan,
    /// The actor with this name.
    Name(String),
    /// Intersection of sets, the smallest first.
    Sets(Vec<(String, Arc<IdSet>)>),
    /// Union of these paths.
    Any(Vec<AccessPath>),
}

impl AccessPath {
    /// Upper limit for the number of candidates; `everybody` is the number of all actors.
    pub(super) fn most(&self, everybody: usize) -> usize {
        match self {
            Self::FullScan => everybody,
            Self::Name(_) => 1,
            Self::Sets(sets) => sets.first().map_or(0, |(_, set)| set.len()),
            Self::Any(paths) => {
                paths.iter().map(|path| path.most(everybody)).fold(0, usize::saturating_add).min(everybody)
            }
        }
    }

    /// The best access path for `query`; `everybody` is the number of all actors.
    pub(super) fn of(query: &ActorQuery, indexes: &Indexes, everybody: usize) -> Self {
        let set = |name: String, set: Arc<IdSet>| Self::Sets(vec![(name, set)]);
        match query {
            ActorQuery::Name(Pattern::Exact(name)) => Self::Name(name.clone()),
            ActorQuery::Name(pattern) => match pattern.prefix().split_once('/') {
                Some((kind, _)) => set(format!("kind={kind}"), indexes.kinds.get(kind)),
                None => Self::FullScan,
            },
            ActorQuery::Type(actor_type) => set(format!("type={actor_type}"), indexes.types.get(actor_type)),
            ActorQuery::Tag(tag) => set(format!("tag={tag}"), indexes.tags.get(tag)),
            ActorQuery::Priority(priority) => {
                set(format!("priority={priority}"), indexes.priority(*priority).get())
            }
            ActorQuery::And(queries) => {
                let paths = queries.iter().map(|query| Self::of(query, indexes, everybody));
                paths.reduce(|best, path| best.with(path, everybody)).unwrap_or(Self::FullScan)
            }
            ActorQuery::Or(queries) => {
                let paths: Vec<_> = queries.iter().map(|query| Self::of(query, indexes, everybody)).collect();
                let sum = paths.iter().map(|path| path.most(everybody)).fold(0, usize::saturating_add);
                if sum >= everybody && paths.len() != 1 { Self::FullScan } else { Self::Any(paths) }
            }
            _ => Self::FullScan,
        }
    }

    /// Combines two access paths that must both hold: the more selective one, intersected with the other where that is
    /// cheap.
    fn with(self, other: Self, everybody: usize) -> Self {
        let (best, second) =
            if other.most(everybody) < self.most(everybody) { (other, self) } else { (self, other) };
        match (best, second) {
            (Self::Sets(mut best), Self::Sets(second)) => {
                best.extend(second);
                best.sort_by_key(|(_, set)| set.len());
                Self::Sets(best)
            }
            (best, _) => best,
        }
    }
}

impl fmt::Display for AccessPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullScan => f.write_str("everybody"),
            Self::Name(name) => write!(f, "name={name}"),
            Self::Sets(sets) => {
                let mut between = "";
                sets.iter().try_for_each(|(name, set)| {
                    write!(f, "{between}{name} ({})", set.len())?;
                    between = ", within ";
                    Ok(())
                })
            }
            Self::Any(paths) => {
                let mut between = "";
                f.write_str("any of [")?;
                paths.iter().try_for_each(|path| {
                    write!(f, "{between}{path}")?;
                    between = "; ";
                    Ok(())
                })?;
                f.write_str("]")
            }
        }
    }
}

/// Explanation of a query's execution, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Access path.
    pub path: String,
    /// Maximum number of actors that are read.
    pub candidates: usize,
    /// Number of registered actors.
    pub actors: usize,
    /// Condition that is checked on each of them.
    pub filter: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, candidates, actors, filter } = self;
        write!(f, "begin with {path}: at most {candidates} of {actors} actors; check {filter}")
    }
}
