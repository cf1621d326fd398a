//! Where a query begins: with the index that leads to the fewest actors.
//!
//! Of conditions that all must hold, the most selective one leads; the others are looked up in their indexes
//! before the actor itself is looked at. Conditions of which any may hold lead together, if each of them can. What
//! no index knows (state, health, uptime, metadata) is checked on the actors that are left.

use std::fmt;
use std::sync::Arc;

use super::index::{IdSet, Indexes};
use super::pattern::Pattern;
use super::query::ActorQuery;

/// What leads to the actors a query may be about.
#[derive(Clone, Debug)]
pub(super) enum AccessPath {
    /// Everybody.
    FullScan,
    /// One name.
    Name(String),
    /// Sets, the smallest first: who is in all of them.
    Sets(Vec<(String, Arc<IdSet>)>),
    /// Who is in any of these.
    Any(Vec<AccessPath>),
}

impl AccessPath {
    /// The most actors it leads to, of `everybody`.
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

    /// The best lead to the actors of `query`, of `everybody`.
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

    /// Of two leads that both hold, the better one; with the other to check, where that is cheap.
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

/// How a query is answered, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where it begins.
    pub path: String,
    /// The most actors that are looked at.
    pub candidates: usize,
    /// How many there are.
    pub actors: usize,
    /// What is checked on each of them.
    pub filter: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, candidates, actors, filter } = self;
        write!(f, "begin with {path}: at most {candidates} of {actors} actors; check {filter}")
    }
}
