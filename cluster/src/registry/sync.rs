//! Synchronization primitives of the registry; only their order of operations matters for concurrency.
//!
//! They are thin wrappers, so that with the feature `shuttle` the same code runs under a scheduler that explores thread
//! interleavings. There, a map or a cell is one lock: the tests assume that each operation of `papaya` and `arc-swap`
//! is atomic and check how the registry combines the operations.

#[cfg(not(feature = "shuttle"))]
mod real {
    use std::borrow::Borrow;
    use std::hash::Hash;
    use std::sync::Arc;

    use arc_swap::ArcSwapOption;

    pub(in super::super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(in super::super) use std::sync::{Mutex, MutexGuard};

    /// A value that is replaced as a whole and read without waiting.
    #[derive(Debug)]
    pub(in super::super) struct Cell<T>(ArcSwapOption<T>);

    impl<T> Cell<T> {
        pub(in super::super) fn new(value: Option<T>) -> Self {
            Self(ArcSwapOption::new(value.map(Arc::new)))
        }

        pub(in super::super) fn set(&self, value: Option<Arc<T>>) {
            self.0.store(value);
        }

        pub(in super::super) fn get(&self) -> Option<Arc<T>> {
            self.0.load_full()
        }

        pub(in super::super) fn copied(&self) -> Option<T>
        where
            T: Copy,
        {
            self.0.load().as_deref().copied()
        }
    }

    /// A map that is read without waiting.
    pub(in super::super) struct Map<K, V>(papaya::HashMap<K, V, foldhash::fast::RandomState>);

    impl<K: Hash + Eq, V> Map<K, V> {
        pub(in super::super) fn new() -> Self {
            Self(papaya::HashMap::with_hasher(foldhash::fast::RandomState::default()))
        }

        pub(in super::super) fn read<Q, R>(&self, key: &Q, look: impl FnOnce(Option<&V>) -> R) -> R
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            look(self.0.pin().get(key))
        }

        pub(in super::super) fn get<Q>(&self, key: &Q) -> Option<V>
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
            V: Clone,
        {
            self.0.pin().get(key).cloned()
        }

        pub(in super::super) fn insert(&self, key: K, value: V) {
            self.0.pin().insert(key, value);
        }

        pub(in super::super) fn remove<Q>(&self, key: &Q)
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            self.0.pin().remove(key);
        }

        pub(in super::super) fn len(&self) -> usize {
            self.0.len()
        }
    }
}

#[cfg(feature = "shuttle")]
mod real {
    use std::borrow::Borrow;
    use std::collections::HashMap;
    use std::hash::Hash;
    use std::sync::Arc;

    pub(in super::super) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(in super::super) use shuttle::sync::{Mutex, MutexGuard};

    #[derive(Debug)]
    pub(in super::super) struct Cell<T>(Mutex<Option<Arc<T>>>);

    impl<T> Cell<T> {
        pub(in super::super) fn new(value: Option<T>) -> Self {
            Self(Mutex::new(value.map(Arc::new)))
        }

        pub(in super::super) fn set(&self, value: Option<Arc<T>>) {
            *self.0.lock().expect("nobody panics") = value;
        }

        pub(in super::super) fn get(&self) -> Option<Arc<T>> {
            self.0.lock().expect("nobody panics").clone()
        }

        pub(in super::super) fn copied(&self) -> Option<T>
        where
            T: Copy,
        {
            self.get().as_deref().copied()
        }
    }

    pub(in super::super) struct Map<K, V>(Mutex<HashMap<K, Arc<V>>>);

    impl<K: Hash + Eq, V> Map<K, V> {
        pub(in super::super) fn new() -> Self {
            Self(Mutex::new(HashMap::new()))
        }

        pub(in super::super) fn read<Q, R>(&self, key: &Q, look: impl FnOnce(Option<&V>) -> R) -> R
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            let found = self.0.lock().expect("nobody panics").get(key).cloned();
            look(found.as_deref())
        }

        pub(in super::super) fn get<Q>(&self, key: &Q) -> Option<V>
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
            V: Clone,
        {
            self.read(key, |value| value.cloned())
        }

        pub(in super::super) fn insert(&self, key: K, value: V) {
            self.0.lock().expect("nobody panics").insert(key, Arc::new(value));
        }

        pub(in super::super) fn remove<Q>(&self, key: &Q)
        where
            K: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            self.0.lock().expect("nobody panics").remove(key);
        }

        pub(in super::super) fn len(&self) -> usize {
            self.0.lock().expect("nobody panics").len()
        }
    }
}

pub(super) use real::{AtomicBool, AtomicU64, Cell, Map, Mutex, MutexGuard, Ordering};
