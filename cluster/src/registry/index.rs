//! Indexes by type, tag, kind and priority: sets of actor ids.
//!
//! An index only yields candidates; the actor's own slot decides whether it is registered (see
//! [`super::actor_registry`]). So a set may contain an id slightly before or after the actor is registered, and no
//! reader notices.
//!
//! A set is replaced as a whole and shares its unchanged parts: readers keep their copy and never wait.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::entry::Registration;
use super::sync::{Cell, Map};
use crate::id::{ActorPriority, ActorType, Tag};

/// Number of an actor within the registry; reused after the actor is removed.
pub(super) type Id = u32;

/// Bits of an id within one part of a set: a part is as large as one container of a bitmap.
const PART_BITS: u32 = 16;

/// A set of ids that is cheap to copy with one id more or less: only the part that changes is copied.
#[derive(Clone, Debug, Default)]
pub(super) struct IdSet {
    parts: Vec<Option<Arc<RoaringBitmap>>>,
    len: usize,
}

fn place(id: Id) -> (usize, u32) {
    ((id >> PART_BITS) as usize, id & ((1 << PART_BITS) - 1))
}

impl IdSet {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains(&self, id: Id) -> bool {
        let (part, within) = place(id);
        self.parts.get(part).and_then(Option::as_ref).is_some_and(|part| part.contains(within))
    }

    pub(super) fn insert(&mut self, id: Id) {
        let (part, within) = place(id);
        if self.parts.len() <= part {
            self.parts.resize(part + 1, None);
        }
        let bitmap = Arc::make_mut(self.parts[part].get_or_insert_default());
        self.len += usize::from(bitmap.insert(within));
    }

    pub(super) fn remove(&mut self, id: Id) {
        let (part, within) = place(id);
        let Some(Some(bitmap)) = self.parts.get_mut(part) else { return };
        let bitmap = Arc::make_mut(bitmap);
        self.len -= usize::from(bitmap.remove(within));
        if bitmap.is_empty() {
            self.parts[part] = None;
        }
    }

    /// All ids in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Id> + '_ {
        let parts = self.parts.iter().enumerate();
        parts.flat_map(|(part, bitmap)| {
            let numbers = bitmap.iter().flat_map(|bitmap| bitmap.iter());
            numbers.map(move |within| ((part as u32) << PART_BITS) | within)
        })
    }
}

/// A set of ids that is replaced as a whole.
pub(super) struct Posting(Cell<IdSet>);

impl Posting {
    fn new() -> Self {
        Self(Cell::new(None))
    }

    /// The current set.
    pub(super) fn get(&self) -> Arc<IdSet> {
        self.0.get().unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut IdSet)) -> usize {
        let mut set = IdSet::clone(&self.get());
        change(&mut set);
        let len = set.len();
        self.0.set(Some(Arc::new(set)));
        len
    }
}

/// A set of ids for each key.
pub(super) struct Index<K>(Map<K, Arc<Posting>>);

impl<K: Hash + Eq + Clone> Index<K> {
    fn new() -> Self {
        Self(Map::new())
    }

    /// The current ids with this key.
    pub(super) fn get<Q>(&self, key: &Q) -> Arc<IdSet>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.read(key, |posting| posting.map(|posting| posting.get()).unwrap_or_default())
    }

    /// Number of keys with at least one id.
    pub(super) fn keys(&self) -> usize {
        self.0.len()
    }

    fn insert<Q>(&self, key: &Q, owned: impl FnOnce() -> K, id: Id)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let posting = self.0.get(key).unwrap_or_else(|| {
            let posting = Arc::new(Posting::new());
            self.0.insert(owned(), posting.clone());
            posting
        });
        posting.change(|set| set.insert(id));
    }

    fn remove<Q>(&self, key: &Q, id: Id)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let posting = self.0.get(key);
        if posting.is_some_and(|posting| posting.change(|set| set.remove(id)) == 0) {
            self.0.remove(key);
        }
    }
}

/// Every index except the one of names.
pub(super) struct Indexes {
    pub(super) types: Index<ActorType>,
    pub(super) tags: Index<Tag>,
    /// By the first part of the name: `link` of `link/node-2`.
    pub(super) kinds: Index<Box<str>>,
    priorities: [Posting; ActorPriority::ALL.len()],
}

impl Indexes {
    pub(super) fn new() -> Self {
        Self {
            types: Index::new(),
            tags: Index::new(),
            kinds: Index::new(),
            priorities: ActorPriority::ALL.map(|_| Posting::new()),
        }
    }

    pub(super) fn priority(&self, priority: ActorPriority) -> &Posting {
        &self.priorities[priority as usize]
    }

    /// Adds `id` to every index. Only the writer may call this.
    pub(super) fn insert(&self, actor: &Registration, id: Id) {
        let actor_type = &actor.profile.actor_type;
        self.types.insert(actor_type, || actor_type.clone(), id);
        for tag in &actor.profile.tags {
            self.tags.insert(tag, || tag.clone(), id);
        }
        let kind = actor.name.kind();
        self.kinds.insert(kind, || kind.into(), id);
        self.priority(actor.priority).change(|set| set.insert(id));
    }

    /// Removes `id` from every index. Only the writer may call this.
    pub(super) fn remove(&self, actor: &Registration, id: Id) {
        self.types.remove(&actor.profile.actor_type, id);
        for tag in &actor.profile.tags {
            self.tags.remove(tag, id);
        }
        self.kinds.remove(actor.name.kind(), id);
        self.priority(actor.priority).change(|set| set.remove(id));
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_holds_what_a_plain_one_holds_and_earlier_copies_stay_as_they_were(
            changes in prop::collection::vec((any::<bool>(), prop_oneof![0u32..40, 65_530u32..65_545, 200_000u32..200_010]), 0..80),
        ) {
            let (mut set, mut plain) = (IdSet::default(), BTreeSet::new());
            for (is_insert, id) in changes {
                let (before, before_plain) = (set.clone(), plain.clone());
                if is_insert {
                    set.insert(id);
                    plain.insert(id);
                } else {
                    set.remove(id);
                    plain.remove(&id);
                }
                prop_assert_eq!(before.iter().collect::<BTreeSet<_>>(), before_plain);
                prop_assert_eq!(set.len(), plain.len());
                prop_assert_eq!(set.contains(id), is_insert);
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
        }
    }
}
