use crate::hash::hash_key;
use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The name by which a backend is known: in the pool, in logs, in metrics, in errors.
///
/// State follows identity. A backend that appears in an updated list under the same id keeps its counters and its
/// health, whatever else changed about it. For an HTTP backend the id is its canonical URL, as
/// [`Origin`](crate::backend::Origin) spells it. Cloning it increments a reference count.
#[derive(Clone)]
pub struct BackendId {
    text: Arc<str>,
    hash: u64,
}

impl BackendId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hash of the id that is the same in every process: [`hash_key`](crate::strategy::hash_key) of its text.
    pub fn hash64(&self) -> u64 {
        self.hash
    }
}

impl<S: Into<Arc<str>>> From<S> for BackendId {
    fn from(id: S) -> Self {
        let text = id.into();
        Self { hash: hash_key(&*text), text }
    }
}

impl Borrow<str> for BackendId {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl PartialEq for BackendId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for BackendId {}

// Like the text that it may be borrowed as.
impl Hash for BackendId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for BackendId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BackendId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialEq<str> for BackendId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for BackendId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}
