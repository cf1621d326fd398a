//! Tests that the registry is correct for all queries, at any time, from any thread.
//!
//! [`model`] compares it with a naive implementation; [`threads`] reads while others write; [`actors`] kills, suspends
//! and deletes real actors under real supervisors.

mod actors;
mod model;
mod threads;

use std::collections::BTreeSet;
use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::id::{ActorName, ActorPriority, ActorType, Tag};
use alys_cluster::registry::{ActorQuery, ActorRegistry, ActorRegistryEntry, Profile, Registration};

fn at(secs: u64) -> Moment {
    Moment::at(Duration::from_secs(secs))
}

fn name(text: &str) -> ActorName {
    ActorName::new(text).expect("a name")
}

fn tag(text: &str) -> Tag {
    Tag::new(text).expect("a tag")
}

fn query(text: &str) -> ActorQuery {
    text.parse().expect(text)
}

/// Registration of an actor.
fn actor(text: &str, actor_type: &str, priority: ActorPriority, tags: &[&str]) -> Registration {
    let mut profile = Profile::new(ActorType::new(actor_type).expect("a type"));
    profile.tags = tags.iter().map(|text| tag(text)).collect();
    Registration { priority, ..Registration::new(name(text), profile) }
}

fn names<'a>(entries: impl IntoIterator<Item = &'a ActorRegistryEntry>) -> Vec<&'a str> {
    entries.into_iter().map(|entry| entry.name().as_str()).collect()
}

/// Checks that every index leads to exactly the registered actors.
fn indexes_agree(registry: &ActorRegistry) {
    let everybody = registry.select(at(0), &ActorQuery::All);
    assert_eq!(registry.len(), everybody.len());
    let mut types = BTreeSet::new();
    let mut tags = BTreeSet::new();
    for entry in &everybody {
        assert_eq!(registry.entry(entry.name()).as_ref(), Some(entry), "by name");
        types.insert(entry.registration().profile.actor_type.clone());
        tags.extend(entry.tags().iter().cloned());
    }
    let expect = |found: Vec<ActorRegistryEntry>, who: &dyn Fn(&ActorRegistryEntry) -> bool, what: &str| {
        assert_eq!(found, everybody.iter().filter(|entry| who(entry)).cloned().collect::<Vec<_>>(), "{what}");
    };
    for actor_type in &types {
        let is = |entry: &ActorRegistryEntry| entry.registration().profile.actor_type == *actor_type;
        expect(registry.by_type(actor_type), &is, actor_type.as_str());
    }
    for tag in &tags {
        expect(registry.by_tag(tag), &|entry| entry.tags().contains(tag), tag.as_str());
    }
    for priority in ActorPriority::ALL {
        let is = |entry: &ActorRegistryEntry| entry.registration().priority == priority;
        expect(registry.by_priority(priority), &is, priority.as_str());
    }
    let stats = registry.stats();
    assert_eq!((stats.types, stats.tags), (types.len(), tags.len()), "no index outlives its actors");
    for (priority, count) in stats.by_priority {
        let there = everybody.iter().filter(|entry| entry.registration().priority == priority).count();
        assert_eq!(count, there, "{priority}: the index leads to nobody else");
    }
    for (state, count) in stats.by_state {
        let there = everybody.iter().filter(|entry| entry.standing.state == state).count();
        assert_eq!(count as usize, there, "{state}");
    }
}
