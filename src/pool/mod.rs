//! The set of backends: one source of truth for the balancer, the health checker, the feedback and the host.
//!
//! In production a list of servers is read a hundred thousand times a second and changes once a minute. So reading is
//! one lock-free pointer load of a [`Snapshot`], and changing makes a new snapshot beside the road and publishes it with
//! one pointer store. A request sees the version from before a change or the one from after, never half of each.
//!
//! State follows identity: [`BackendPool::replace`] compares the new list with the old by id, and a backend that stays
//! keeps its counters and its health. One that leaves gets no new requests; those in flight end in peace.
//!
//! ```
//! use tower_balancer::{BackendPool, pool::Member};
//!
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! pool.mark_unhealthy("http://10.0.0.1:8080");
//! assert_eq!(pool.healthy().len(), 1);
//!
//! // A new list, as discovery would bring it: the first backend stays unhealthy, the second leaves, a third joins.
//! pool.replace([Member::url("http://10.0.0.1:8080")?, Member::url("http://10.0.0.3:8080")?])?;
//! let healthy: Vec<_> = pool.healthy().iter().map(|backend| backend.id().to_string()).collect();
//! assert_eq!(healthy, ["http://10.0.0.3:8080"]);
//! # Ok::<_, tower_balancer::pool::InvalidMember>(())
//! ```
//!
//! What leaves a pool is a [`Dispatch`]: a request, the backend that was picked for it, and the lease.
//!
//! # Limits
//!
//! Each change of the membership copies the list: O(n). Bring a long list with one `replace`, not with many `insert`s.

mod dispatch;
mod member;
mod members;
mod snapshot;
mod view;
mod watch;

pub use self::{
    dispatch::{Dispatch, Routed},
    member::{InvalidMember, Member},
    members::Members,
    snapshot::Snapshot,
    view::View,
    watch::{Change, Watch},
};

use self::view::{Cell, Subscriber};
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::{
    backend::{Backend, BackendId, Health, Home, Weight},
    strategy::{Eligible, Strategy},
    sync::{Mutex, MutexGuard},
};
use arc_swap::ArcSwap;
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, PoisonError, Weak},
};
use tokio::sync::broadcast;

/// A set of backends with targets of type `T`. See the [module](self). A clone is a handle to the same pool.
pub struct BackendPool<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    current: ArcSwap<Snapshot<T>>,
    /// Who is told of a change. Its lock is held for the length of each change: changes happen one at a time.
    views: Mutex<Views<T>>,
    changes: broadcast::Sender<Change>,
    me: Weak<Self>,
}

type Views<T> = Vec<Weak<dyn Subscriber<T>>>;

/// Changes that a [`Watch`] may fall behind before it misses some.
const WATCH_BACKLOG: usize = 256;

#[cfg(feature = "http")]
impl BackendPool<Origin> {
    /// A pool of HTTP backends, all healthy until observed otherwise. No URLs make an empty pool, which is legal.
    ///
    /// # Errors
    ///
    /// [`InvalidMember`] names the first URL that is none, or that is there twice.
    pub fn new<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, InvalidMember> {
        let members: Result<Vec<_>, _> = urls.into_iter().map(|url| Member::url(url.as_ref())).collect();
        Self::from_members(members?)
    }
}

impl<T: Clone + Send + Sync + 'static> BackendPool<T> {
    /// A pool of any kind of backend, all healthy until observed otherwise.
    ///
    /// # Errors
    ///
    /// [`InvalidMember::Duplicate`] where two members have the same id.
    pub fn from_members(members: impl IntoIterator<Item = Member<T>>) -> Result<Self, InvalidMember> {
        let shared = Arc::new_cyclic(|me: &Weak<Shared<T>>| Shared {
            current: ArcSwap::from_pointee(Snapshot {
                members: Arc::new(Members::new([])),
                eligible: Arc::default(),
                picker: Arc::new(()),
            }),
            views: Mutex::default(),
            changes: broadcast::Sender::new(WATCH_BACKLOG),
            me: Weak::clone(me),
        });
        let pool = Self { shared };
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
        let stay = members.iter().map(|(backend, target)| (Arc::clone(backend), target.clone()));
        self.shared.publish(&mut views, stay.chain([added]));
        self.shared.tell(Change::Added(id));
        Ok(())
    }

    /// Takes a backend out for good. Requests that it still serves go on to their end. Returns whether it was there.
    pub fn remove(&self, id: &str) -> bool {
        let mut views = self.shared.lock();
        let members = self.members();
        let Some((removed, _)) = members.find(id) else { return false };
        let stay = members.iter().filter(|(backend, _)| !Arc::ptr_eq(backend, removed));
        self.shared.publish(&mut views, stay.map(|(backend, target)| (Arc::clone(backend), target.clone())));
        self.shared.tell(Change::Removed(removed.id().clone()));
        true
    }

    /// Makes the pool hold exactly `list`, in one step. A backend whose id was there before keeps its counters and its
    /// health, and takes target and weight from the list.
    ///
    /// # Errors
    ///
    /// [`InvalidMember::Duplicate`] where two entries have the same id; the pool is unchanged.
    pub fn replace(&self, list: impl IntoIterator<Item = Member<T>>) -> Result<(), InvalidMember> {
        let list: Vec<Member<T>> = list.into_iter().collect();
        let mut listed = HashSet::with_capacity(list.len());
        if let Some(twice) = list.iter().find(|member| !listed.insert(member.id.as_str())) {
            return Err(InvalidMember::Duplicate(twice.id.clone()));
        }

        let mut views = self.shared.lock();
        let old = self.members();
        let mut changes: Vec<_> = old
            .backends()
            .iter()
            .filter(|backend| !listed.contains(backend.id().as_str()))
            .map(|backend| Change::Removed(backend.id().clone()))
            .collect();
        drop(listed);

        let mut new = Vec::with_capacity(list.len());
        for Member { id, target, weight } in list {
            let backend = match old.find(id.as_str()) {
                Some((backend, _)) => {
                    if backend.weight() != weight.get() {
                        backend.set_weight(weight);
                        changes.push(Change::Weight(id));
                    }
                    Arc::clone(backend)
                }
                None => {
                    changes.push(Change::Added(id.clone()));
                    self.shared.backend(id, weight)
                }
            };
            new.push((backend, target));
        }
        self.shared.publish(&mut views, new);
        changes.into_iter().for_each(|change| self.shared.tell(change));
        Ok(())
    }

    /// Changes a backend's share of the traffic. Returns whether it was there.
    pub fn set_weight(&self, id: &str, weight: Weight) -> bool {
        let mut views = self.shared.lock();
        let Some(backend) = self.get(id) else { return false };
        backend.set_weight(weight);
        let base = self.shared.current.load();
        each(&mut views, |view| view.rebuild(&base));
        self.shared.tell(Change::Weight(backend.id().clone()));
        true
    }

    /// The pool as `strategy` sees it. A balancer makes one; a host needs it only to build something of its own.
    pub fn view<G: Strategy>(&self, strategy: G) -> View<T, G> {
        let mut views = self.shared.lock();
        let cell = Arc::new(Cell::new(self.clone(), strategy, &self.shared.current.load()));
        // The type is spelled out so that the pointer is unsized here.
        let subscriber: Weak<Cell<T, G>> = Arc::downgrade(&cell);
        views.push(subscriber);
        View::new(cell)
    }
}

impl<T> BackendPool<T> {
    /// Every backend with its target. Lock-free; the list is of one version and does not change in the hand.
    pub fn members(&self) -> Arc<Members<T>> {
        Arc::clone(self.shared.current.load().members())
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

    /// The changes of the pool from now on.
    pub fn watch(&self) -> Watch {
        Watch::new(self.shared.changes.subscribe())
    }
}

impl<T> Shared<T> {
    // A strategy that panicked while it built leaves every view at its last published version: go on from there.
    fn lock(&self) -> MutexGuard<'_, Views<T>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Change) {
        // No receiver is no error: nobody is watching.
        let _ = self.changes.send(change);
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    fn backend(&self, id: BackendId, weight: Weight) -> Arc<Backend> {
        let home: Weak<Self> = Weak::clone(&self.me);
        Arc::new(Backend::at_home(id, weight, home))
    }

    fn publish(&self, views: &mut Views<T>, members: impl IntoIterator<Item = (Arc<Backend>, T)>) {
        let members = Arc::new(Members::new(members));
        let eligible = Arc::new(Eligible::new(members.backends().iter().map(|backend| backend.is_eligible())));
        let base = Arc::new(Snapshot { members, eligible, picker: Arc::new(()) });
        each(views, |view| view.rebuild(&base));
        self.current.store(base);
    }
}

/// Tells every view that is still there, and forgets the others.
fn each<T>(views: &mut Views<T>, tell: impl Fn(&dyn Subscriber<T>)) {
    views.retain(|view| view.upgrade().inspect(|view| tell(&**view)).is_some());
}

impl<T: Send + Sync + 'static> Home for Shared<T> {
    fn health_changed(&self, backend: &Backend, health: &Health) {
        let mut views = self.lock();
        let current = self.current.load();
        let Some(index) = current.members.place(backend.id().as_str()) else { return };
        // A backend that was removed still ends its requests; another may have its id by now.
        if !std::ptr::eq(&*current.members.backends()[index.get()], backend) {
            return;
        }
        if current.candidates().is_eligible(index) != backend.is_eligible() {
            let mut base = current.with_picker(Arc::new(()));
            base.eligible = Arc::new(current.eligible.with(index, backend.is_eligible()));
            each(&mut views, |view| view.refresh(&base));
            self.current.store(Arc::new(base));
        }
        let cause = health.cause().unwrap_or_default().into();
        self.tell(Change::Health { id: backend.id().clone(), state: health.state(), cause });
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
