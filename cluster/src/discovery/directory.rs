//! Stores what the other members published, as long as they are up.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::advert::Advert;
use crate::clock::Moment;
use crate::id::{ActorName, Incarnation, NodeId};
use crate::port::PeerChange;
use crate::registry::{ActorQuery, ActorRegistryEntry};

/// Adverts of one member that is up.
#[derive(Clone, Debug)]
struct KnownMember {
    incarnation: Incarnation,
    version: Option<u64>,
    actors: Arc<[(ActorRegistryEntry, Arc<str>)]>,
}

/// An actor of another member.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteEntry {
    /// Member the actor runs on.
    pub node: NodeId,
    /// Incarnation of the member.
    pub incarnation: Incarnation,
    /// Registry entry of the actor, as last published.
    pub entry: ActorRegistryEntry,
    /// Protocol in which requests to the actor are encoded.
    pub protocol: Arc<str>,
}

/// Actors published by the other members. Cheap to clone; clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<BTreeMap<NodeId, KnownMember>>>, watch::Sender<u64>);

impl Directory {
    /// Applies a membership change: a lost member's actors are removed at once.
    pub fn peer(&self, change: &PeerChange) {
        let mut peers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            PeerChange::Up { node, incarnation } => {
                if peers.get(node).is_none_or(|peer| peer.incarnation < *incarnation) {
                    let peer = KnownMember { incarnation: *incarnation, version: None, actors: Arc::new([]) };
                    peers.insert(node.clone(), peer);
                }
            }
            PeerChange::Down { node, .. } | PeerChange::Left { node, .. } => drop(peers.remove(node)),
            // Not lost: its adverts stay valid, though requests may go unanswered.
            PeerChange::Unknown { .. }
            | PeerChange::Indirect { .. }
            | PeerChange::Apart { .. }
            | PeerChange::Together { .. } => {}
        }
        drop(peers);
        self.1.send_modify(|changes| *changes += 1);
    }

    /// Notifies of every membership change and every newer advert.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    /// Stores an advert; returns whether it was newer. Adverts of a lost member are ignored: it is asked again when it
    /// returns.
    pub fn publish(&self, now: Moment, node: &NodeId, advert: Advert) -> Result<bool, String> {
        advert.check()?;
        let mut peers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = peers.get_mut(node) else { return Ok(false) };
        let Advert { incarnation, version, actors } = advert;
        if incarnation < peer.incarnation {
            let known = peer.incarnation;
            return Err(format!("incarnation {incarnation} publishes its actors after incarnation {known}"));
        }
        // The federation decides which incarnation is up. A member of an unknown one is asked once the federation knows
        // it.
        if incarnation > peer.incarnation || peer.version >= Some(version) {
            return Ok(false);
        }
        let actors = actors.0.into_iter().map(|actor| {
            let (entry, protocol) = actor.entry(now);
            (entry, protocol.into())
        });
        *peer = KnownMember { incarnation, version: Some(version), actors: actors.collect() };
        drop(peers);
        self.1.send_modify(|changes| *changes += 1);
        Ok(true)
    }

    /// Whether this incarnation of the member is up.
    pub fn has(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        let peers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(node).is_some_and(|peer| peer.incarnation == incarnation)
    }

    /// Incarnation of an actor as last published, if this incarnation of its member is up.
    pub fn life(&self, node: &NodeId, incarnation: Incarnation, actor: &ActorName) -> Option<Incarnation> {
        let found = self.find(node, actor).filter(|found| found.incarnation == incarnation)?;
        Some(found.entry.standing.incarnation)
    }

    /// The actor `name` of `node`, as last published.
    pub fn find(&self, node: &NodeId, name: &ActorName) -> Option<RemoteEntry> {
        let peers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.get(node)?;
        let (entry, protocol) = peer.actors.iter().find(|(entry, _)| entry.name() == name)?;
        let (entry, protocol) = (entry.clone(), protocol.clone());
        Some(RemoteEntry { node: node.clone(), incarnation: peer.incarnation, entry, protocol })
    }

    /// Members that are up, with their incarnation and number of published actors.
    pub fn members(&self) -> Vec<(NodeId, Incarnation, usize)> {
        let peers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        peers.iter().map(|(node, peer)| (node.clone(), peer.incarnation, peer.actors.len())).collect()
    }

    /// Actors of other members that match `query`, ordered by member and name.
    pub fn select(&self, now: Moment, query: &ActorQuery) -> Vec<RemoteEntry> {
        // Copies a few pointers, so that a long query holds no lock.
        let peers = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = Vec::new();
        for (node, KnownMember { incarnation, actors, .. }) in peers {
            let holds =
                |entry: &ActorRegistryEntry| query.matches(now, entry.registration(), &entry.standing);
            found.extend(actors.iter().filter(|(entry, _)| holds(entry)).map(|(entry, protocol)| {
                RemoteEntry {
                    node: node.clone(),
                    incarnation,
                    entry: entry.clone(),
                    protocol: protocol.clone(),
                }
            }));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::advert::{ACTORS_MAX, Actors, Advertised};
    use super::*;
    use crate::id::{ActorName, ActorPriority, ActorType, Tag};
    use crate::ping::HealthStatus;
    use crate::registry::ActorLifecycleState;
    use crate::transport::codec;
    use std::time::Duration;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn actor(number: usize) -> Advertised {
        Advertised {
            name: ActorName::new(&format!("w{number}")).expect("a name"),
            actor_type: ActorType::new("Worker").expect("a type"),
            tags: [Tag::literal("a")].into(),
            priority: ActorPriority::Normal,
            state: ActorLifecycleState::Active,
            health: HealthStatus::Healthy,
            incarnation: Incarnation(1),
            for_ms: 5_000,
            failures: 0,
            protocol: "worker/1".to_owned(),
        }
    }

    fn advert(incarnation: u64, version: u64, actors: usize) -> Advert {
        let actors = Actors((0..actors).map(actor).collect());
        Advert { incarnation: Incarnation(incarnation), version, actors }
    }

    fn up(incarnation: u64) -> PeerChange {
        PeerChange::Up { node: node("node-2"), incarnation: Incarnation(incarnation) }
    }

    fn down() -> PeerChange {
        PeerChange::Down { node: node("node-2"), reason: "silent".to_owned() }
    }

    fn found(directory: &Directory) -> usize {
        directory.select(NOW, &ActorQuery::Tag(Tag::literal("a"))).len()
    }

    const NOW: Moment = Moment::at(Duration::from_mins(1));

    #[test]
    fn what_a_member_publishes_is_found_while_that_incarnation_is_there() {
        let directory = Directory::default();
        let publish = |advert| directory.publish(NOW, &node("node-2"), advert);
        assert_eq!(publish(advert(1, 1, 2)), Ok(false), "it is not known to be there");
        directory.peer(&up(1));
        assert!(directory.has(&node("node-2"), Incarnation(1)));
        assert_eq!((publish(advert(1, 1, 2)), found(&directory)), (Ok(true), 2));
        assert_eq!((publish(advert(1, 1, 3)), found(&directory)), (Ok(false), 2), "not twice");
        assert_eq!((publish(advert(1, 3, 4)), found(&directory)), (Ok(true), 4));
        assert_eq!((publish(advert(1, 2, 1)), found(&directory)), (Ok(false), 4), "not what is older");
        directory.peer(&down());
        assert_eq!(found(&directory), 0, "gone at once");
        assert!(!directory.has(&node("node-2"), Incarnation(1)));
        assert_eq!(publish(advert(1, 4, 2)), Ok(false));

        directory.peer(&up(2));
        assert!(!directory.has(&node("node-2"), Incarnation(1)), "another incarnation");
        let late = publish(advert(1, 9, 2)).expect_err("late");
        assert_eq!(late, "incarnation 1 publishes its actors after incarnation 2");
        assert_eq!((publish(advert(2, 1, 1)), found(&directory)), (Ok(true), 1));
        let second = ActorName::literal("w0");
        let found_by_name = directory.find(&node("node-2"), &second).expect("it is published");
        assert_eq!((found_by_name.incarnation, &*found_by_name.protocol), (Incarnation(2), "worker/1"));
        assert_eq!(directory.find(&node("node-2"), &ActorName::literal("w1")), None);
        let [entry] = &directory.select(NOW, &ActorQuery::All)[..] else { panic!("one") };
        assert_eq!(entry.entry.standing.uptime(NOW), Some(Duration::from_secs(5)));
        directory.peer(&PeerChange::Left { node: node("node-2"), reason: "leaving: SIGTERM".to_owned() });
        assert_eq!(found(&directory), 0, "who has left publishes nothing either");
    }

    #[test]
    fn advertisements_beyond_their_bounds_are_refused_and_change_nothing() {
        let directory = Directory::default();
        directory.peer(&up(1));
        directory.publish(NOW, &node("node-2"), advert(1, 1, 2)).expect("well");
        let mut twice = advert(1, 2, 1);
        twice.actors.0.push(actor(0));
        let mut tagged = advert(1, 2, 1);
        tagged.actors.0[0].tags = (0..17).map(|n| Tag::new(&format!("t{n}")).expect("a tag")).collect();
        let mut odd = advert(1, 2, 1);
        odd.actors.0[0].protocol = "worker/1\n".to_owned();
        for (advert, expected) in [
            (twice, "it publishes actor w0 twice; expected each name once"),
            (tagged, "actor w0 has 17 tags; expected at most 16"),
            (odd, "the protocol of actor w0 is not named by up to 64 printable characters"),
        ] {
            let refused = directory.publish(NOW, &node("node-2"), advert).expect_err(expected);
            assert_eq!(refused, expected);
        }
        assert_eq!(found(&directory), 2);

        // An advert with too many actors is rejected by their count, before they are decoded.
        let many = codec::encode(&advert(1, 2, ACTORS_MAX + 1)).expect("encodes");
        let refused = codec::decode::<Advert>(&many).expect_err("too many").to_string();
        assert!(refused.contains("1025 published actors; expected at most 1024"), "{refused}");
        let mut million = codec::encode(&(Incarnation(1), 2u64)).expect("encodes");
        million.extend([0xfc, 0x40, 0x42, 0x0f, 0x00]);
        let refused = codec::decode::<Advert>(&million).expect_err("too many").to_string();
        assert!(refused.contains("1000000 published actors"), "{refused}");
        assert!(codec::encode(&advert(1, 2, 100_000)).is_err(), "nor does it fit into a message");
    }
}
