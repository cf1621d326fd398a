//! Identifiers and numbers shared by all modules.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest accepted name in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A rejected name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name:?} is no name; expected {expected}")]
pub struct NameError {
    name: String,
    /// Description of the accepted names.
    pub expected: &'static str,
}

fn checked(name: &str) -> Result<Arc<str>, NameError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '/';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= NAME_BYTES_MAX && name.chars().all(legal) {
        Ok(name.into())
    } else {
        let name = name.chars().take(NAME_BYTES_MAX).collect();
        let expected = "1 to 64 characters of a-z, 0-9, '-' and '/', beginning with a letter";
        Err(NameError { name, expected })
    }
}

/// Checks a Rust type's name without its path and parameters, or a name given explicitly.
fn checked_type(name: &str) -> Result<Arc<str>, NameError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins && name.len() <= NAME_BYTES_MAX && name.chars().all(legal) {
        Ok(name.into())
    } else {
        let name = name.chars().take(NAME_BYTES_MAX).collect();
        Err(NameError { name, expected: "1 to 64 letters, digits, '-' and '_', beginning with a letter" })
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        name_type! { $(#[$doc])* $name, checked }
    };
    ($(#[$doc:meta])* $name:ident, $checked:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the form of `name`.
            pub fn new(name: &str) -> Result<Self, NameError> {
                $checked(name).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// Name of a federation member, as given in the genesis file.
    NodeId
}
name_type! {
    /// Name of an actor within one node; the same on every node (`chain`, `link/node-2`).
    ActorName
}
name_type! {
    /// Label for finding actors (specification, Phase 3), such as `consensus-critical`.
    Tag
}
name_type! {
    /// Type of an actor (specification, Phase 3): the name of its Rust type, such as `ChainActor`.
    ActorType, checked_type
}

impl Tag {
    /// Makes a tag from a string literal.
    ///
    /// # Panics
    ///
    /// If `tag` is not a valid name.
    pub fn literal(tag: &'static str) -> Self {
        Self::new(tag).expect("a literal tag has the form of a name")
    }
}

impl ActorType {
    /// The type of actors implemented by `A`: its name without path and parameters.
    pub fn of<A: ?Sized>() -> Self {
        let path = std::any::type_name::<A>();
        let path = path.split('<').next().unwrap_or(path);
        let name = path.rsplit("::").next().unwrap_or(path);
        Self::new(name).unwrap_or_else(|_| Self("Unnamed".into()))
    }
}

impl ActorName {
    /// Makes a name from a string literal.
    ///
    /// # Panics
    ///
    /// If `name` is not a valid name.
    pub fn literal(name: &'static str) -> Self {
        Self::new(name).expect("a literal name has the form of a name")
    }

    /// Kind of the actor: the part before the first `/` (`link` of `link/node-2`). As a metric label it has few values.
    pub fn kind(&self) -> &str {
        self.as_str().split('/').next().unwrap_or_default()
    }
}

/// Number of one start of a member or of an actor; each start has a higher number than the one before. Statements by an
/// earlier incarnation of a member are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The height of a block; 0 stands for genesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockHeight(pub u64);

impl BlockHeight {
    /// The next height.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for BlockHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much depends on an actor, most important first. It determines the tiers of the supervision tree, the health
/// check intervals and the shutdown order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorPriority {
    /// The member does not count as healthy without it.
    Critical,
    /// Consensus waits for it.
    High,
    /// Serves the links between members.
    Normal,
    /// Only reports; no other actor waits for it.
    Background,
}

impl ActorPriority {
    /// All priorities, most important first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Background];

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Background => "background",
        }
    }
}

impl fmt::Display for ActorPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_wrong_form_are_refused_with_the_name() {
        for bad in ["", "1node", "Node", "node 1", "node\n", &"n".repeat(65), "nöde"] {
            let error = NodeId::new(bad).expect_err(bad).to_string();
            assert!(error.contains("expected 1 to 64 characters"), "{error}");
        }
    }

    #[test]
    fn names_of_the_right_form_read_back() {
        for good in ["node-1", "link/node-2", "a", &"n".repeat(64)] {
            assert_eq!(NodeId::new(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn the_type_of_an_actor_is_its_name_without_path_and_parameters() {
        struct Worker<T>(std::marker::PhantomData<T>);
        assert_eq!(ActorType::of::<Worker<Vec<u8>>>().as_str(), "Worker");
        assert_eq!(ActorType::of::<ActorName>().as_str(), "ActorName");
        assert_eq!(ActorType::of::<(u8, u8)>().as_str(), "Unnamed");
        assert!(ActorType::new("a type").is_err());
    }
}
