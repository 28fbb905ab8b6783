use super::{
    Change, Ejection, FailOpen, InvalidMember, Member, Members, Queue, Stats, View, Watch,
    shared::{Shared, Views},
    view::Cell,
};
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::{
    backend::{Backend, BackendId, Moment, Weight},
    strategy::Strategy,
    sync::{MutexGuard, Ordering, locked},
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// A set of backends with targets of type `T`. See the [module](crate::pool). A clone is a handle to the same pool.
pub struct BackendPool<T> {
    shared: Arc<Shared<T>>,
}

#[cfg(feature = "http")]
impl BackendPool<Origin> {
    /// A pool of HTTP backends, all healthy until observed otherwise. Their ids are their URLs in the canonical spelling, with
    /// which methods that take an id know them: `http://localhost:3001` for `http://LOCALHOST:3001/`. No URLs make an empty
    /// pool, which is legal; where it is to be filled later, [`empty`](Self::empty) says so.
    ///
    /// # Errors
    ///
    /// [`InvalidMember`] names the first URL that is not one, or that appears twice.
    pub fn new<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, InvalidMember> {
        let members: Result<Vec<_>, _> = urls.into_iter().map(|url| Member::url(url.as_ref())).collect();
        Self::from_members(members?)
    }
}

impl<T: Clone + Send + Sync + 'static> BackendPool<T> {
    /// A pool that has no backends yet.
    pub fn empty() -> Self {
        Self { shared: Shared::empty() }
    }

    /// A pool of any kind of backend, all healthy until observed otherwise.
    ///
    /// # Errors
    ///
    /// [`InvalidMember::Duplicate`] where two members have the same id.
    pub fn from_members(members: impl IntoIterator<Item = Member<T>>) -> Result<Self, InvalidMember> {
        let pool = Self::empty();
        pool.replace(members)?;
        Ok(pool)
    }

    /// Adds a backend.
    ///
    /// # Errors
    ///
    /// [`InvalidMember::Duplicate`] where the pool has a backend of that id; the pool is unchanged.
    pub fn insert(&self, member: Member<T>) -> Result<(), InvalidMember> {
        let mut views = self.shared.lock();
        let members = self.members();
        if members.find(member.id.as_str()).is_some() {
            return Err(InvalidMember::Duplicate(member.id));
        }
        let id = member.id.clone();
        let added = (self.shared.backend(member.id, member.weight), member.target);
        added.0.set_locality(member.locality);
        self.shared.publish(&mut views, Members::new(members.cloned().chain([added])), false);
        self.shared.tell(Change::Added(id));
        Ok(())
    }

    /// Takes a backend out for good. Requests that it still serves go on to their end. Returns whether it was there.
    pub fn remove(&self, id: &str) -> bool {
        let mut views = self.shared.lock();
        let members = self.members();
        let Some((removed, _)) = members.find(id) else { return false };
        let stay = members.cloned().filter(|(backend, _)| !Arc::ptr_eq(backend, removed));
        self.shared.publish(&mut views, Members::new(stay), false);
        self.shared.tell(Change::Removed(removed.id().clone()));
        true
    }

    /// Makes the pool hold exactly `list`, in one step. A backend whose id was there before keeps its counters and its
    /// health, and takes target, weight, tier and zone from the list.
    ///
    /// # Errors
    ///
    /// [`InvalidMember::Duplicate`] where two entries have the same id; the pool is unchanged.
    pub fn replace(&self, list: impl IntoIterator<Item = Member<T>>) -> Result<(), InvalidMember> {
        let (list, listed) = without_duplicates(list)?;
        let mut views = self.shared.lock();
        let old = self.members();
        let removed = |backend: &&Arc<Backend>| !listed.contains(backend.id());
        let mut changes: Vec<_> =
            old.backends().iter().filter(removed).map(|backend| Change::Removed(backend.id().clone())).collect();
        let new: Vec<_> = list.into_iter().map(|member| self.place(&old, member, &mut changes)).collect();
        self.publish(&mut views, new, changes);
        Ok(())
    }

    /// Puts in `list`, each in place of the backend of that id if there is one, as [`replace`](Self::replace) does, and takes
    /// out those of the ids in `removed` that are not in the list, all in one step. Others stay as they are.
    ///
    /// # Errors
    ///
    /// [`InvalidMember::Duplicate`] where two entries have the same id; the pool is unchanged.
    pub fn update(
        &self,
        list: impl IntoIterator<Item = Member<T>>,
        removed: impl IntoIterator<Item = BackendId>,
    ) -> Result<(), InvalidMember> {
        let (list, _) = without_duplicates(list)?;
        let removed: HashSet<_> = removed.into_iter().collect();
        let mut views = self.shared.lock();
        let (old, mut changes) = (self.members(), Vec::new());
        let mut put: HashMap<_, _> = list.iter().enumerate().map(|(turn, member)| (member.id.clone(), turn)).collect();
        let mut list: Vec<_> = list.into_iter().map(Some).collect();
        let mut new = Vec::with_capacity(old.backends().len() + list.len());
        // Who is there keeps his place: a list that says the same again changes nothing.
        for (backend, target) in old.cloned() {
            match put.remove(backend.id()).and_then(|turn| list[turn].take()) {
                Some(member) => new.push(self.place(&old, member, &mut changes)),
                None if removed.contains(backend.id()) => changes.push(Change::Removed(backend.id().clone())),
                None => new.push((backend, target)),
            }
        }
        new.extend(list.into_iter().flatten().map(|member| self.place(&old, member, &mut changes)));
        self.publish(&mut views, new, changes);
        Ok(())
    }

    /// The backend of a member: the one that is there, with what has changed, or a new one.
    fn place(&self, old: &Members<T>, member: Member<T>, changes: &mut Vec<Change>) -> (Arc<Backend>, T) {
        let Member { id, target, weight, keeps_weight, locality } = member;
        let Some((backend, _)) = old.find(id.as_str()) else {
            changes.push(Change::Added(id.clone()));
            let backend = self.shared.backend(id, weight);
            backend.set_locality(locality);
            return (backend, target);
        };
        if !keeps_weight && backend.weight() != weight.get() {
            backend.set_weight(weight);
            changes.push(Change::Weight(id.clone()));
        }
        if *backend.locality() != locality {
            backend.set_locality(locality);
            changes.push(Change::Locality(id));
        }
        (Arc::clone(backend), target)
    }

    fn publish(&self, views: &mut Views<T>, new: Vec<(Arc<Backend>, T)>, changes: Vec<Change>) {
        let weighed = changes.iter().any(|change| matches!(change, Change::Weight(_) | Change::Locality(_)));
        self.shared.publish(views, Members::new(new), weighed);
        changes.into_iter().for_each(|change| self.shared.tell(change));
    }

    /// Changes a backend's share of the traffic. Returns whether it was there.
    pub fn set_weight(&self, id: &str, weight: Weight) -> bool {
        let mut views = self.shared.lock();
        let Some(backend) = self.get(id) else { return false };
        backend.set_weight(weight);
        self.shared.rebuild(&mut views, self.shared.current.load_full());
        self.shared.tell(Change::Weight(backend.id().clone()));
        true
    }

    /// Changes when traffic takes a backend out, and for how long.
    pub fn set_ejection(&self, ejection: Ejection) {
        self.shared.judge.set_rules(ejection);
    }

    /// When traffic takes a backend out, and for how long.
    pub fn ejection(&self) -> Ejection {
        self.shared.judge.rules()
    }

    /// Changes who is picked from where too few backends are well.
    pub fn set_fail_open(&self, fail_open: FailOpen) {
        self.shared.set_fail_open(fail_open);
    }

    /// Who is picked from where too few backends are well.
    pub fn fail_open(&self) -> FailOpen {
        self.shared.current.load().fail_open
    }

    /// Changes how many requests a backend may have in flight; `None` for as many as come. Returns whether it was there.
    pub fn set_limit(&self, id: &str, limit: Option<u32>) -> bool {
        self.get(id).inspect(|backend| backend.set_limit(limit)).is_some()
    }

    /// While this is held nobody else drains a backend or ejects one for its answers.
    pub(crate) fn leaving(&self) -> MutexGuard<'_, ()> {
        locked(&self.shared.leaving)
    }

    /// Says that somebody asks the backends how they are, until the answer is dropped: what could not be reached comes back
    /// by his word then, not by trying.
    pub(crate) fn checked(&self) -> Checked<T> {
        self.shared.checkers.fetch_add(1, Ordering::Relaxed);
        Checked(Arc::clone(&self.shared))
    }

    /// The same for many backends in one step. Ids that the pool does not have are passed over.
    pub fn set_weights<'a>(&self, weights: impl IntoIterator<Item = (&'a str, Weight)>) {
        let mut views = self.shared.lock();
        let set = |(id, weight): (&str, Weight)| self.get(id).inspect(|backend| backend.set_weight(weight));
        let changed: Vec<_> = weights.into_iter().filter_map(set).collect();
        self.shared.rebuild(&mut views, self.shared.current.load_full());
        changed.into_iter().for_each(|backend| self.shared.tell(Change::Weight(backend.id().clone())));
    }

    /// The pool as `strategy` sees it. A balancer makes one; a host needs it only to build something of its own.
    pub fn view<G: Strategy>(&self, strategy: G) -> View<T, G> {
        let mut views = self.shared.lock();
        let cell = Arc::new(Cell::new(self.clone(), strategy, &self.shared.current.load()));
        // The type is spelled out so that the pointer is unsized here.
        let subscriber: Weak<Cell<T, G>> = Arc::downgrade(&cell);
        views.retain(|view| view.strong_count() > 0);
        views.push(subscriber);
        View::new(cell)
    }
}

impl<T: Send + Sync + 'static> BackendPool<T> {
    /// Lets time pass: an ejection that is over by `now` ends.
    pub fn advance(&self, now: Instant) {
        if self.shared.due.by(now) {
            self.shared.advance(now);
        }
    }

    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        self.shared.due.after(Moment::of(now))
    }
}

impl<T> BackendPool<T> {
    /// Every backend with its target. Lock-free; the list is one version of the pool and does not change.
    pub fn members(&self) -> Arc<Members<T>> {
        self.shared.members()
    }

    /// Every backend, whatever its health.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.members().backends().to_vec()
    }

    /// The backends that may be picked.
    pub fn healthy(&self) -> Vec<Arc<Backend>> {
        self.shared.current.load().candidates().iter().map(|(_, backend)| Arc::clone(backend)).collect()
    }

    /// The backend `id`. O(1), lock-free.
    pub fn get(&self, id: &str) -> Option<Arc<Backend>> {
        let members = self.members();
        members.find(id).map(|(backend, _)| Arc::clone(backend))
    }

    /// What happened to the pool so far: picks, and requests for which there was nobody.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Whether too few backends are well, and others are picked as well: see [`FailOpen`].
    pub fn is_open(&self) -> bool {
        self.shared.current.load().is_open()
    }

    /// How many callers wait for a backend.
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.shared.queue
    }

    /// The changes of the pool from now on.
    pub fn watch(&self) -> Watch {
        Watch::new(self.shared.changes.subscribe())
    }
}

/// A list and its ids.
fn without_duplicates<T>(
    list: impl IntoIterator<Item = Member<T>>,
) -> Result<(Vec<Member<T>>, HashSet<BackendId>), InvalidMember> {
    let list: Vec<Member<T>> = list.into_iter().collect();
    let mut ids = HashSet::with_capacity(list.len());
    match list.iter().find(|member| !ids.insert(member.id.clone())) {
        Some(twice) => Err(InvalidMember::Duplicate(twice.id.clone())),
        None => Ok((list, ids)),
    }
}

/// A checker that runs.
pub(crate) struct Checked<T>(Arc<Shared<T>>);

impl<T> Drop for Checked<T> {
    fn drop(&mut self) {
        self.0.checkers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Clone for BackendPool<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for BackendPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackendPool").field(&*self.shared.current.load()).finish()
    }
}
