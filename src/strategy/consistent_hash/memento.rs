use super::{Hashing, Index, Table};
use crate::{
    backend::{Backend, BackendId},
    hash::{below, mix},
    sync::locked,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// MementoHash (Coluzzi and others 2023): keys jump to a bucket (Lamping, Veach 2014), and each backend that has left
/// remembers who took its place.
///
/// No table to fill, 16 bytes a backend, and exact: a backend that leaves moves its own keys only, and one that comes
/// takes the place of the last that left; those that left together and come back together find their own. Made for large
/// sets that change by the minute. Weights are ignored. The layout depends on the order in which backends left, so two
/// processes agree only while none has, or all saw the same changes; it starts in the order of the ids.
///
/// Clones share what they remember: use one for each pool.
#[derive(Clone, Debug, Default)]
pub struct Memento {
    state: Arc<Mutex<State>>,
}

impl Memento {
    /// Nobody has left yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Hashing for Memento {
    type Table = MementoTable;

    fn table(&self, members: &[Arc<Backend>]) -> MementoTable {
        // A panic cannot leave it half-changed in a way that another table would mind: every change is made anew.
        let mut state = locked(&self.state);
        state.follow(members);
        let mut places = vec![u32::MAX; state.buckets.removed.len()];
        for (place, backend) in members.iter().enumerate() {
            if let Some(&bucket) = state.bucket.get(backend.id()) {
                places[bucket as usize] = place as u32;
            }
        }
        MementoTable { buckets: state.buckets.clone(), places }
    }
}

/// Who has which bucket.
#[derive(Debug, Default)]
struct State {
    buckets: Buckets,
    bucket: HashMap<BackendId, u32>,
}

impl State {
    fn follow(&mut self, members: &[Arc<Backend>]) {
        let mut listed: Vec<&BackendId> = members.iter().map(|backend| backend.id()).collect();
        listed.sort_unstable();
        let mut left: Vec<_> = self.bucket.keys().filter(|id| listed.binary_search(id).is_err()).cloned().collect();
        // The last to leave is the first to find its place again: the other way round than they come.
        left.sort_unstable_by(|one, other| other.cmp(one));
        for id in left {
            if let Some(bucket) = self.bucket.remove(&id) {
                self.buckets.remove(bucket);
            }
        }
        for id in listed {
            if !self.bucket.contains_key(id) {
                self.bucket.insert(id.clone(), self.buckets.add());
            }
        }
    }
}

/// The buckets, and what those that were removed remember.
#[derive(Clone, Debug, Default)]
struct Buckets {
    removed: Vec<Option<Removed>>,
    working: u32,
    last_removed: Option<u32>,
}

/// A bucket that was removed.
#[derive(Clone, Copy, Debug)]
struct Removed {
    /// How many were left then; also the bucket that took its place.
    left: u32,
    /// The one that was removed before it.
    before: Option<u32>,
}

impl Buckets {
    fn add(&mut self) -> u32 {
        self.working += 1;
        match self.last_removed {
            Some(bucket) => {
                self.last_removed = self.removed[bucket as usize].take().and_then(|removed| removed.before);
                bucket
            }
            None => {
                self.removed.push(None);
                self.removed.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, bucket: u32) {
        self.working -= 1;
        if self.last_removed.is_none() && bucket as usize + 1 == self.removed.len() {
            self.removed.pop();
            return;
        }
        self.removed[bucket as usize] = Some(Removed { left: self.working, before: self.last_removed });
        self.last_removed = Some(bucket);
    }

    /// The working bucket of `key`; `None` where there is none.
    fn of(&self, key: u64) -> Option<u32> {
        if self.working == 0 {
            return None;
        }
        let mut bucket = jump(key, self.removed.len() as u32);
        while let Some(removed) = self.removed[bucket as usize] {
            // Among those that were left when this one went.
            bucket = below(mix(key, u64::from(bucket)), removed.left as usize) as u32;
            while let Some(other) = self.removed[bucket as usize].filter(|other| other.left >= removed.left) {
                bucket = other.left;
            }
        }
        Some(bucket)
    }
}

/// The bucket of `key` among `n`, of which there is one: as `n` grows, a key stays or goes to the new one.
fn jump(mut key: u64, n: u32) -> u32 {
    let (mut bucket, mut next) = (0, 0);
    while next < i64::from(n) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
    }
    bucket as u32
}

/// The buckets of a [`Memento`], and the backend of each.
#[derive(Clone, Debug)]
pub struct MementoTable {
    buckets: Buckets,
    places: Vec<u32>,
}

/// The owners of a key that are out or full before all are ranked instead.
const ATTEMPTS: u64 = 64;

impl Table for MementoTable {
    fn first(&self, key: u64, takes: impl Fn(Index) -> bool) -> Option<Index> {
        let hash = |attempt| if attempt == 0 { key } else { mix(key, attempt) };
        let owner = |attempt| Some(Index::new(self.places[self.buckets.of(hash(attempt))? as usize] as usize));
        (0..ATTEMPTS).filter_map(owner).find(|&index| takes(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_jumps_as_published() {
        // Of the reference code of the paper's authors, run once.
        for (key, n, bucket) in
            [(0, 1, 0), (0, 1_000, 0), (1, 2, 0), (10_863_919_174_838_991, 11, 6), (2_016_238_256_797_177_309, 11, 3)]
        {
            assert_eq!(jump(key, n), bucket, "{key} {n}");
        }
    }
}
