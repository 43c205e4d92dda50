//! A part of a state that many states share, with the digest by which two of them are told apart.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The digest of a value: the same in every run.
pub fn digest_of(value: &impl Hash) -> u64 {
    ahash::RandomState::with_seeds(3, 5, 7, 11).hash_one(value)
}

/// A value that is copied when it is changed. After a change it must be sealed again.
#[derive(Debug)]
pub struct Node<T> {
    value: Arc<T>,
    digest: u64,
}

impl<T: Hash + Clone> Node<T> {
    pub fn new(value: T) -> Self {
        Self::of(Arc::new(value))
    }

    pub fn of(value: Arc<T>) -> Self {
        let digest = digest_of(&value);
        Self { value, digest }
    }

    pub fn get(&self) -> &T {
        &self.value
    }

    pub fn shared(&self) -> &Arc<T> {
        &self.value
    }

    /// The value, to be changed.
    pub fn edit(&mut self) -> &mut T {
        Arc::make_mut(&mut self.value)
    }

    /// Calculates the digest anew.
    pub fn seal(&mut self) {
        self.digest = digest_of(&self.value);
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), digest: self.digest }
    }
}

impl<T> PartialEq for Node<T> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<T> Eq for Node<T> {}

impl<T> Hash for Node<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
    }
}
