//! Registry queries as data: combinable conditions on actors.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::entry::{EntryStatus, Registration};
use super::lifecycle::ActorLifecycleState;
use super::pattern::Pattern;
use crate::clock::Moment;
use crate::id::{ActorName, ActorPriority, ActorType, Tag};
use crate::ping::HealthStatus;

/// Maximum number of parts of a query, including the combining ones.
pub const PARTS_MAX: usize = 256;
/// Maximum number of patterns of a query; each is compiled separately.
pub const PATTERNS_MAX: usize = 16;
/// Maximum nesting depth of a query.
pub const DEPTH_MAX: usize = 32;

/// Condition on actors (specification, Phase 3). Combine with [`ActorQuery::and`], [`ActorQuery::or`] and `!`.
#[derive(Clone, Debug, PartialEq)]
pub enum ActorQuery {
    /// All actors.
    All,
    /// Actors whose name matches the pattern.
    Name(Pattern),
    /// Actors of this type.
    Type(ActorType),
    /// Actors with this tag.
    Tag(Tag),
    /// Actors of this priority.
    Priority(ActorPriority),
    /// Actors in this lifecycle state.
    State(ActorLifecycleState),
    /// Actors with this health status.
    Health(HealthStatus),
    /// Actors that have been active for at least this long.
    UptimeAtLeast(Duration),
    /// Actors that have been active for less than this.
    UptimeBelow(Duration),
    /// Actors with this supervisor.
    Supervisor(ActorName),
    /// Actors with a metadata entry for the key whose value matches the pattern.
    Metadata(String, Pattern),
    /// Actors that match all of these; all actors if the list is empty.
    And(Vec<ActorQuery>),
    /// Actors that match any of these; no actor if the list is empty.
    Or(Vec<ActorQuery>),
    /// Actors that do not match this.
    Not(Box<ActorQuery>),
}

/// Why a query was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The query has too many parts.
    #[error("the query has more than {PARTS_MAX} parts; expected at most {PARTS_MAX}")]
    Parts,
    /// The query has too many patterns.
    #[error("the query has more than {PATTERNS_MAX} patterns; expected at most {PATTERNS_MAX}")]
    Patterns,
    /// The query is nested too deep.
    #[error("the query is nested more than {DEPTH_MAX} deep; expected at most {DEPTH_MAX}")]
    Depth,
    /// The result changes with time alone, so no event would notify a subscriber.
    #[error("a subscription can not ask for an uptime; expected a query whose answer changes by events only")]
    Time,
}

impl ActorQuery {
    /// Actors with at least one of these tags.
    pub fn any_tag(tags: impl IntoIterator<Item = Tag>) -> Self {
        Self::Or(tags.into_iter().map(Self::Tag).collect())
    }

    /// Actors with all of these tags.
    pub fn all_tags(tags: impl IntoIterator<Item = Tag>) -> Self {
        Self::And(tags.into_iter().map(Self::Tag).collect())
    }

    /// Actors with none of these tags.
    pub fn no_tag(tags: impl IntoIterator<Item = Tag>) -> Self {
        !Self::any_tag(tags)
    }

    /// Actors that match both `self` and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::And(mut all) => {
                all.push(other);
                Self::And(all)
            }
            first => Self::And(vec![first, other]),
        }
    }

    /// Actors that match `self` or `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Or(mut any) => {
                any.push(other);
                Self::Or(any)
            }
            first => Self::Or(vec![first, other]),
        }
    }

    /// Checks that evaluating the query takes a bounded amount of work per actor.
    pub fn validate(&self) -> Result<(), QueryError> {
        let mut patterns = 0;
        self.measure(1, &mut 0, &mut patterns)?;
        if patterns > PATTERNS_MAX { Err(QueryError::Patterns) } else { Ok(()) }
    }

    fn measure(&self, depth: usize, parts: &mut usize, patterns: &mut usize) -> Result<(), QueryError> {
        *parts += 1;
        if depth > DEPTH_MAX {
            return Err(QueryError::Depth);
        }
        if *parts > PARTS_MAX {
            return Err(QueryError::Parts);
        }
        match self {
            Self::And(queries) | Self::Or(queries) => {
                queries.iter().try_for_each(|query| query.measure(depth + 1, parts, patterns))
            }
            Self::Not(query) => query.measure(depth + 1, parts, patterns),
            Self::Name(pattern) | Self::Metadata(_, pattern) => {
                *patterns += usize::from(!matches!(pattern, Pattern::Exact(_)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the result changes with time alone.
    pub fn depends_on_time(&self) -> bool {
        match self {
            Self::UptimeAtLeast(_) | Self::UptimeBelow(_) => true,
            Self::And(queries) | Self::Or(queries) => queries.iter().any(Self::depends_on_time),
            Self::Not(query) => query.depends_on_time(),
            _ => false,
        }
    }

    /// Whether an actor with this registration and status matches.
    pub fn matches(&self, now: Moment, actor: &Registration, standing: &EntryStatus) -> bool {
        let profile = &actor.profile;
        match self {
            Self::All => true,
            Self::Name(pattern) => pattern.matches(actor.name.as_str()),
            Self::Type(actor_type) => profile.actor_type == *actor_type,
            Self::Tag(tag) => profile.tags.contains(tag),
            Self::Priority(priority) => actor.priority == *priority,
            Self::State(state) => standing.state == *state,
            Self::Health(health) => standing.health == *health,
            Self::UptimeAtLeast(least) => standing.uptime(now).is_some_and(|uptime| uptime >= *least),
            Self::UptimeBelow(most) => standing.uptime(now).is_some_and(|uptime| uptime < *most),
            Self::Supervisor(name) => actor.supervisor.as_ref() == Some(name),
            Self::Metadata(key, value) => profile.metadata.get(key).is_some_and(|found| value.matches(found)),
            Self::And(queries) => queries.iter().all(|query| query.matches(now, actor, standing)),
            Self::Or(queries) => queries.iter().any(|query| query.matches(now, actor, standing)),
            Self::Not(query) => !query.matches(now, actor, standing),
        }
    }

    /// Whether it uses data that a member does not publish about its actors: supervisor and metadata.
    pub fn is_of_one_member(&self) -> bool {
        match self {
            Self::Supervisor(_) | Self::Metadata(..) => true,
            Self::And(queries) | Self::Or(queries) => queries.iter().any(Self::is_of_one_member),
            Self::Not(query) => query.is_of_one_member(),
            _ => false,
        }
    }
}

impl std::ops::Not for ActorQuery {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Not(query) => *query,
            query => Self::Not(Box::new(query)),
        }
    }
}

/// The value, in quotes if it would not parse as one word.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_word = !self.0.is_empty() && self.0.chars().all(super::parse::is_word);
        if is_word {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", self.0.replace('\\', r"\\").replace('"', "\\\""))
        }
    }
}

fn write_pattern(f: &mut fmt::Formatter<'_>, key: &str, pattern: &Pattern) -> fmt::Result {
    let operator = if matches!(pattern, Pattern::Regex(..)) { '~' } else { '=' };
    write!(f, "{key}{operator}{}", Quoted(pattern.as_str()))
}

fn write_all(f: &mut fmt::Formatter<'_>, queries: &[ActorQuery], between: &str, none: &str) -> fmt::Result {
    let [first, others @ ..] = queries else { return f.write_str(none) };
    write!(f, "({first}")?;
    others.iter().try_for_each(|query| write!(f, " {between} {query}"))?;
    f.write_str(")")
}

/// In the syntax that [`ActorQuery::from_str`](std::str::FromStr) parses.
impl fmt::Display for ActorQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Name(pattern) => write_pattern(f, "name", pattern),
            Self::Type(actor_type) => write!(f, "type={actor_type}"),
            Self::Tag(tag) => write!(f, "tag={tag}"),
            Self::Priority(priority) => write!(f, "priority={priority}"),
            Self::State(state) => write!(f, "state={state}"),
            Self::Health(health) => write!(f, "health={health}"),
            Self::UptimeAtLeast(least) => {
                write!(f, "uptime>={}", Quoted(&humantime::format_duration(*least).to_string()))
            }
            Self::UptimeBelow(most) => {
                write!(f, "uptime<{}", Quoted(&humantime::format_duration(*most).to_string()))
            }
            Self::Supervisor(name) => write!(f, "supervisor={name}"),
            Self::Metadata(key, value) => write_pattern(f, &format!("meta.{key}"), value),
            Self::And(queries) => write_all(f, queries, "and", "all"),
            Self::Or(queries) => write_all(f, queries, "or", "not all"),
            Self::Not(query) => write!(f, "not {query}"),
        }
    }
}
