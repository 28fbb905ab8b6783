use super::{Change, Members, Snapshot, view::Subscriber};
use crate::{
    backend::{Backend, BackendId, Health, Home, Weight},
    strategy::Eligible,
    sync::{Mutex, MutexGuard},
};
use arc_swap::ArcSwap;
use std::sync::{Arc, PoisonError, Weak};
use tokio::sync::broadcast;

/// What all handles of a pool share, and how a change is published.
pub(super) struct Shared<T> {
    pub(super) current: ArcSwap<Snapshot<T>>,
    /// Who is told of a change. Its lock is held for the length of each change: changes happen one at a time.
    views: Mutex<Views<T>>,
    pub(super) changes: broadcast::Sender<Change>,
    me: Weak<Self>,
}

pub(super) type Views<T> = Vec<Weak<dyn Subscriber<T>>>;

/// Changes that a [`Watch`] may fall behind before it misses some.
const WATCH_BACKLOG: usize = 256;

impl<T> Shared<T> {
    pub(super) fn members(&self) -> Arc<Members<T>> {
        Arc::clone(self.current.load().members())
    }

    // A strategy that panicked while it built has changed nothing that was published: go on from there.
    pub(super) fn lock(&self) -> MutexGuard<'_, Views<T>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, change: Change) {
        // No receiver is no error: nobody is watching.
        let _ = self.changes.send(change);
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(super) fn empty() -> Arc<Self> {
        let nobody = Snapshot { members: Arc::new(Members::new([])), eligible: Arc::default(), picker: Arc::new(()) };
        Arc::new_cyclic(|me| Self {
            current: ArcSwap::from_pointee(nobody),
            views: Mutex::default(),
            changes: broadcast::Sender::new(WATCH_BACKLOG),
            me: Weak::clone(me),
        })
    }

    pub(super) fn backend(&self, id: BackendId, weight: Weight) -> Arc<Backend> {
        let home: Weak<Self> = Weak::clone(&self.me);
        Arc::new(Backend::at_home(id, weight, home))
    }

    /// Publishes a new list, with `weighed` where a weight or a locality in it has changed. Discovery brings the same list again and
    /// again: that costs no strategy a new table.
    pub(super) fn publish(&self, views: &mut Views<T>, members: Members<T>, weighed: bool) {
        let eligible = Eligible::new(members.backends().iter().map(|backend| backend.is_eligible()));
        let base = Snapshot { members: Arc::new(members), eligible: Arc::new(eligible), picker: Arc::new(()) };
        let old = self.members();
        let (before, now) = (old.backends(), base.members.backends());
        let same = before.len() == now.len() && before.iter().zip(now).all(|(a, b)| Arc::ptr_eq(a, b));
        if same && !weighed { self.refresh(views, base) } else { self.rebuild(views, Arc::new(base)) }
    }

    /// Publishes `base` to every view with the picker that it has: for the same backends with the same weights.
    pub(super) fn refresh(&self, views: &mut Views<T>, base: Snapshot<T>) {
        views.retain(|view| view.upgrade().inspect(|view| view.refresh(&base)).is_some());
        self.current.store(Arc::new(base));
    }

    /// Publishes `base` to every view with a new picker. All are built before any is published: a strategy that panics
    /// while it builds leaves everything at the version before.
    pub(super) fn rebuild(&self, views: &mut Views<T>, base: Arc<Snapshot<T>>) {
        views.retain(|view| view.strong_count() > 0);
        let there: Vec<_> = views.iter().filter_map(Weak::upgrade).collect();
        let built: Vec<_> = there.iter().map(|view| view.build(&base)).collect();
        built.into_iter().for_each(|publish| publish());
        self.current.store(base);
    }
}

impl<T: Send + Sync + 'static> Home for Shared<T> {
    fn health_changed(&self, backend: &Backend, health: &Health) -> bool {
        let mut views = self.lock();
        let current = self.current.load();
        let Some(index) = current.members.place(backend.id().as_str()) else { return false };
        // A backend that was removed still ends its requests; another may have its id by now.
        if !std::ptr::eq(&*current.members.backends()[index.get()], backend) {
            return false;
        }
        if current.candidates().is_eligible(index) != backend.is_eligible() {
            let mut base = current.with_picker(Arc::new(()));
            base.eligible = Arc::new(current.eligible.with(index, backend.is_eligible()));
            self.refresh(&mut views, base);
        }
        let cause = health.cause().unwrap_or_default().into();
        self.tell(Change::Health { id: backend.id().clone(), state: health.state(), cause });
        true
    }
}
