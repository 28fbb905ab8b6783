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
    // A strategy that panicked while it built leaves every view at its last published version: go on from there.
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

    pub(super) fn publish(&self, views: &mut Views<T>, members: impl IntoIterator<Item = (Arc<Backend>, T)>) {
        let members = Arc::new(Members::new(members));
        let eligible = Arc::new(Eligible::new(members.backends().iter().map(|backend| backend.is_eligible())));
        let base = Arc::new(Snapshot { members, eligible, picker: Arc::new(()) });
        each(views, |view| view.rebuild(&base));
        self.current.store(base);
    }
}

/// Tells every view that is still there, and forgets the others.
pub(super) fn each<T>(views: &mut Views<T>, tell: impl Fn(&dyn Subscriber<T>)) {
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
