//! How the actors of a member are found: the words each is known by, the specification's named queries, and what
//! other members may ask.

use std::time::Duration;

use alys_cluster::discovery::{Exports, Protocol};
use alys_cluster::federation::{Decision, FederationMessage};
use alys_cluster::id::{ActorName, Tag};
use alys_cluster::mailbox::Address;
use alys_cluster::registry::ActorQuery;
use serde::{Deserialize, Serialize};

use crate::actors::chain::ChainMessage;
use crate::consensus::{Block, Certificate};

/// The tags of the actors of a member, by the first part of their name.
const TAGS: &[(&str, &[&str])] = &[
    ("chain", &["consensus-critical", "validator-chain", "storage"]),
    ("engine", &["consensus-critical", "block-production", "execution"]),
    ("federation", &["consensus-critical", "federation-health"]),
    (
        "consensus",
        &[
            "consensus-critical",
            "validator-chain",
            "block-production",
            "federation-signature",
            "threshold-signature",
        ],
    ),
    ("sync", &["validator-chain", "network"]),
    ("gateway", &["network"]),
    ("network", &["network"]),
    ("link", &["network"]),
    ("discovery", &["network"]),
    ("health", &["federation-health", "observability"]),
    ("recovery", &["federation-health", "observability"]),
    ("metrics", &["observability"]),
    ("logging", &["observability"]),
];

/// The queries that the specification gives names to (Phase 3), in the words of a query. Governance has no actor in
/// this member yet: its queries find whoever is registered with its tags.
pub const NAMED_QUERIES: &[(&str, &str)] = &[
    ("consensus-critical", "tag=consensus-critical"),
    ("validator-chain", "tag=validator-chain"),
    ("block-production", "tag=block-production"),
    ("federation-signature", "tag=federation-signature"),
    ("threshold-signature", "tag=threshold-signature"),
    ("federation-health", "tag=federation-health"),
    ("governance-event", "tag=governance-event"),
    ("voting", "tag=voting"),
    ("proposal", "tag=proposal"),
];

/// The tags of the actor `name`.
pub fn tags(name: &ActorName) -> impl Iterator<Item = Tag> {
    let known = TAGS.iter().find(|(kind, _)| *kind == name.kind());
    known.into_iter().flat_map(|(_, tags)| tags.iter().map(|tag| Tag::literal(tag)))
}

/// The query of this name.
pub fn named(name: &str) -> Option<ActorQuery> {
    let (_, text) = NAMED_QUERIES.iter().find(|(known, _)| *known == name)?;
    Some(text.parse().expect("a named query is a query"))
}

/// What other members may ask the chain.
#[derive(Clone, Copy, Debug)]
pub struct ChainProtocol;

/// A question to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainQuestion {
    /// The block at this height, with its proof.
    Block(u64),
}

/// The chain's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainAnswer {
    /// The block, if there is one.
    Block(Option<Box<(Block, Certificate)>>),
}

impl Protocol for ChainProtocol {
    const NAME: &'static str = "chain/1";
    type Request = ChainQuestion;
    type Reply = ChainAnswer;
}

/// What other members may ask the federation actor: what its gate says.
#[derive(Clone, Copy, Debug)]
pub struct GateProtocol;

/// What a member's gate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateAnswer {
    /// Whether it is open.
    pub open: bool,
    /// Healthy members, as that one counts.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// Why.
    pub reason: String,
}

impl Protocol for GateProtocol {
    const NAME: &'static str = "gate/1";
    type Request = ();
    type Reply = GateAnswer;
}

/// The longest an actor is waited for on another member's behalf.
const DEADLINE: Duration = Duration::from_secs(2);

/// What other members may reach. Each question is passed on to the actor itself.
pub fn exports(chain: &Address<ChainMessage>, federation: &Address<FederationMessage>) -> Exports {
    let (blocks, gate) = (chain.clone(), federation.clone());
    Exports::default()
        .with::<ChainProtocol, _>(chain.name().clone(), move |_, ChainQuestion::Block(height)| {
            let chain = blocks.clone();
            async move {
                let ask = |reply| ChainMessage::Block(height, reply);
                let found = chain.call(DEADLINE, ask).await.map_err(|error| error.to_string())??;
                Ok(ChainAnswer::Block(found.map(|stored| Box::new((stored.block, stored.certificate)))))
            }
        })
        .with::<GateProtocol, _>(federation.name().clone(), move |_, ()| {
            let federation = gate.clone();
            async move {
                let status = federation.call(DEADLINE, FederationMessage::Status).await;
                let verdict = status.map_err(|error| error.to_string())?.verdict;
                Ok(GateAnswer {
                    open: verdict.decision == Decision::Open,
                    healthy: verdict.healthy,
                    required: verdict.required,
                    reason: verdict.reason,
                })
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_query_of_the_specification_is_one_and_each_tag_has_the_form_of_one() {
        for (name, _) in NAMED_QUERIES {
            assert!(named(name).is_some_and(|query| query.validate().is_ok()), "{name}");
        }
        assert_eq!(named("nobody"), None);
        for (kind, expected) in TAGS {
            let name = ActorName::new(&format!("{kind}/one")).expect("a name");
            assert_eq!(tags(&name).count(), expected.len());
        }
    }
}
