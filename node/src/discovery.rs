//! Defines how a member's actors are discovered: their tags, the specification's named queries, and the protocols that
//! other members can call.

use std::time::Duration;

use alys_cluster::discovery::{Exports, Protocol};
use alys_cluster::federation::{Decision, FederationMessage};
use alys_cluster::id::{ActorName, Tag};
use alys_cluster::mailbox::Address;
use alys_cluster::registry::ActorQuery;
use serde::{Deserialize, Serialize};

use crate::actors::chain::ChainMessage;
use crate::consensus::{Block, Certificate};

/// Tags of a member's actors, by the first segment of the actor's name.
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

/// Queries that the specification names (Phase 3), in query syntax. This member has no governance actor: those queries
/// find any actor that is registered with their tags.
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

/// Tags of the actor `name`.
pub fn tags(name: &ActorName) -> impl Iterator<Item = Tag> {
    let known = TAGS.iter().find(|(kind, _)| *kind == name.kind());
    known.into_iter().flat_map(|(_, tags)| tags.iter().map(|tag| Tag::literal(tag)))
}

/// Returns the named query `name`.
pub fn named(name: &str) -> Option<ActorQuery> {
    let (_, text) = NAMED_QUERIES.iter().find(|(known, _)| *known == name)?;
    Some(text.parse().expect("a named query is a query"))
}

/// Protocol by which other members read blocks from the chain actor.
#[derive(Clone, Copy, Debug)]
pub struct ChainProtocol;

/// Request to the chain actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainQuestion {
    /// The block at this height with its certificate.
    Block(u64),
}

/// Reply of the chain actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainAnswer {
    /// The block, if it exists.
    Block(Option<Box<(Block, Certificate)>>),
}

impl Protocol for ChainProtocol {
    const NAME: &'static str = "chain/1";
    type Request = ChainQuestion;
    type Reply = ChainAnswer;
}

/// Protocol by which other members read the gate's verdict from the federation actor.
#[derive(Clone, Copy, Debug)]
pub struct GateProtocol;

/// Verdict of a member's gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateAnswer {
    /// Whether the gate is open.
    pub open: bool,
    /// Number of healthy members, as counted by that member.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason of the verdict.
    pub reason: String,
}

impl Protocol for GateProtocol {
    const NAME: &'static str = "gate/1";
    type Request = ();
    type Reply = GateAnswer;
}

/// Longest wait for a local actor on behalf of another member.
const DEADLINE: Duration = Duration::from_secs(2);

/// Exports that other members can call. Each request is forwarded to the actor.
pub fn exports(chain: &Address<ChainMessage>, federation: &Address<FederationMessage>) -> Exports {
    let (blocks, gate) = (chain.clone(), federation.clone());
    Exports::default()
        .with::<ChainProtocol, _>(chain.name().clone(), move |_, ChainQuestion::Block(height)| {
            let chain = blocks.clone();
            async move {
                let ask = |reply| ChainMessage::Block(height, reply);
                let found = chain.ask(DEADLINE, ask).await.map_err(|error| error.to_string())??;
                Ok(ChainAnswer::Block(found.map(|stored| Box::new((stored.block, stored.certificate)))))
            }
        })
        .with::<GateProtocol, _>(federation.name().clone(), move |_, ()| {
            let federation = gate.clone();
            async move {
                let status = federation.ask(DEADLINE, FederationMessage::Status).await;
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
