use super::{BackendPool, Queue, Snapshot, Watch, stats::Picked};
use crate::{error::Reason, strategy::Strategy};
use arc_swap::ArcSwap;
use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

/// A pool as one strategy sees it: its current [`Snapshot`], with that strategy's picker in it.
///
/// Reading is lock-free. The pool publishes each change to every view before the call that made the change returns; a
/// view that is dropped is forgotten. A clone is the same view and costs one reference count; a view keeps its pool
/// alive.
pub struct View<T, G: Strategy> {
    cell: Arc<Cell<T, G>>,
}

/// What the pool publishes to.
pub(super) trait Subscriber<T>: Send + Sync {
    /// The members or their weights changed: builds a new picker, and returns what publishes it.
    fn build<'a>(&'a self, base: &Snapshot<T>) -> Box<dyn FnOnce() + 'a>;
    /// Only the eligible list changed: keep the picker.
    fn refresh(&self, base: &Snapshot<T>);
}

pub(super) struct Cell<T, G: Strategy> {
    pool: BackendPool<T>,
    strategy: G,
    current: ArcSwap<Snapshot<T, G::Picker>>,
    picked: Arc<Picked>,
}

impl<T, G: Strategy> Cell<T, G> {
    pub(super) fn new(pool: BackendPool<T>, strategy: G, base: &Snapshot<T>) -> Self {
        let current = ArcSwap::from_pointee(built(&strategy, base));
        let picked = pool.stats().view();
        Self { pool, strategy, current, picked }
    }
}

fn built<T, G: Strategy>(strategy: &G, base: &Snapshot<T>) -> Snapshot<T, G::Picker> {
    base.with_picker(Arc::new(strategy.build(base.members.backends())))
}

impl<T: Send + Sync, G: Strategy> Subscriber<T> for Cell<T, G> {
    fn build<'a>(&'a self, base: &Snapshot<T>) -> Box<dyn FnOnce() + 'a> {
        let built = Arc::new(built(&self.strategy, base));
        Box::new(|| self.current.store(built))
    }

    fn refresh(&self, base: &Snapshot<T>) {
        // Only the pool stores here, one change at a time, so the picker is that of the same members.
        let picker = Arc::clone(&self.current.load().picker);
        self.current.store(Arc::new(base.with_picker(picker)));
    }
}

impl<T, G: Strategy> View<T, G> {
    pub(super) fn new(cell: Arc<Cell<T, G>>) -> Self {
        Self { cell }
    }

    /// The current version. One lock-free load; hold it for the length of a decision, no longer.
    pub fn load(&self) -> impl Deref<Target = Arc<Snapshot<T, G::Picker>>> + use<T, G> {
        self.cell.current.load()
    }

    /// Who waits for room.
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        self.cell.pool.queue()
    }

    /// A backend was picked for a request.
    pub(crate) fn picked(&self) {
        self.cell.picked.one_more();
    }

    /// None could be.
    pub(crate) fn refused(&self, reason: Reason) {
        self.cell.pool.stats().refused(reason);
    }

    /// The pool's changes from now on.
    pub fn watch(&self) -> Watch {
        self.cell.pool.watch()
    }
}

impl<T: Send + Sync + 'static, G: Strategy> View<T, G> {
    /// Lets time pass: an ejection that is over by `now` ends. One load where none is; a balancer does it with each request.
    pub fn advance(&self, now: Instant) {
        self.cell.pool.advance(now);
    }

    /// How long it will be, from `now`, until time alone changes a backend; `None` where it does not.
    pub fn due(&self, now: Instant) -> Option<Duration> {
        self.cell.pool.due(now)
    }
}

impl<T, G: Strategy> Clone for View<T, G> {
    fn clone(&self) -> Self {
        Self { cell: Arc::clone(&self.cell) }
    }
}

impl<T, G: Strategy> fmt::Debug for View<T, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&*self.load()).finish()
    }
}
