use crate::{
    backend::{Backend, BackendId},
    strategy::Index,
};
use std::{collections::HashMap, fmt, sync::Arc};

/// The backends of a pool and how each is reached, in the order in which they were added.
///
/// Two lists side by side rather than one of pairs: strategies look at backends and never at targets.
pub struct Members<T> {
    backends: Vec<Arc<Backend>>,
    targets: Vec<T>,
    places: HashMap<BackendId, Index>,
}

impl<T> Members<T> {
    pub(super) fn new(members: impl IntoIterator<Item = (Arc<Backend>, T)>) -> Self {
        let (backends, targets): (Vec<Arc<Backend>>, Vec<T>) = members.into_iter().unzip();
        let place = |(place, backend): (usize, &Arc<Backend>)| (backend.id().clone(), Index::new(place));
        let places = backends.iter().enumerate().map(place).collect();
        Self { backends, targets, places }
    }

    /// Every backend, whatever its health.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Every backend with its target.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<Backend>, &T)> {
        self.backends.iter().zip(&self.targets)
    }

    /// The same backends and targets, for another list.
    pub(super) fn cloned(&self) -> impl Iterator<Item = (Arc<Backend>, T)>
    where
        T: Clone,
    {
        self.iter().map(|(backend, target)| (Arc::clone(backend), target.clone()))
    }

    /// The place of the backend `id`. O(1).
    pub fn place(&self, id: &str) -> Option<Index> {
        self.places.get(id).copied()
    }

    /// The backend `id`, with its target. O(1).
    pub fn find(&self, id: &str) -> Option<(&Arc<Backend>, &T)> {
        self.place(id).and_then(|index| self.get(index))
    }

    /// The backend at `index`, with its target; `None` where the index is beyond the members.
    pub fn get(&self, index: Index) -> Option<(&Arc<Backend>, &T)> {
        Some((self.backends.get(index.get())?, self.targets.get(index.get())?))
    }
}

impl<T> fmt::Debug for Members<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.backends).finish()
    }
}
