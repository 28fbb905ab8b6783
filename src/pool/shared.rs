use super::{Change, FailOpen, Members, Queue, Snapshot, Stats, due::Due, ejection::Judge, view::Subscriber};
use crate::{
    backend::{Backend, BackendId, Backoff, EjectionCause, Health, HealthState, Moment, Owner, Weight},
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, locked},
};
use arc_swap::ArcSwap;
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::sync::broadcast;

/// What all handles of a pool share, and how a change is published.
pub(super) struct Shared<T> {
    pub(super) current: ArcSwap<Snapshot<T>>,
    /// Who is told of a change. Its lock is held for the length of each change: changes happen one at a time.
    views: Mutex<Views<T>>,
    pub(super) changes: broadcast::Sender<Change>,
    pub(super) judge: Judge,
    /// Held while a backend is drained, or ejected for its answers, so that no two are where one may be.
    pub(super) leaving: Mutex<()>,
    pub(super) due: Due,
    pub(super) stats: Stats,
    /// Whether it was told that too few backends are well.
    told_open: AtomicBool,
    /// The second in which it was told last that nobody is ejected, because most of the pool went at once.
    told_frozen: AtomicU64,
    /// Who waits for room.
    pub(super) queue: Arc<Queue>,
    /// Checkers that run.
    pub(super) checkers: AtomicUsize,
    me: Weak<Self>,
}

pub(super) type Views<T> = Vec<Weak<dyn Subscriber<T>>>;

/// The `tracing` target of the events that tell of a pool as a whole.
pub const POOL_TARGET: &str = "tower_balancer::pool";

/// Within so much time it is one event that takes backends out, not many.
const MASS_WINDOW: Duration = Duration::from_secs(10);

/// A trial that has not ended by then is none.
const TRIAL: Duration = Duration::from_secs(60);

/// Changes that a [`Watch`] may fall behind before it misses some.
const WATCH_BACKLOG: usize = 256;

impl<T> Shared<T> {
    pub(super) fn members(&self) -> Arc<Members<T>> {
        Arc::clone(self.current.load().members())
    }

    // A strategy that panicked while it built has changed nothing that was published: go on from there.
    pub(super) fn lock(&self) -> MutexGuard<'_, Views<T>> {
        locked(&self.views)
    }

    pub(super) fn tell(&self, change: Change) {
        // No receiver is no error: nobody is watching.
        let _ = self.changes.send(change);
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(super) fn empty() -> Arc<Self> {
        let nobody = Snapshot {
            members: Arc::new(Members::new([])),
            eligible: Arc::default(),
            fail_open: FailOpen::default(),
            is_open: false,
            picker: Arc::new(()),
        };
        Arc::new_cyclic(|me| Self {
            current: ArcSwap::from_pointee(nobody),
            views: Mutex::default(),
            changes: broadcast::Sender::new(WATCH_BACKLOG),
            judge: Judge::default(),
            leaving: Mutex::default(),
            due: Due::default(),
            stats: Stats::default(),
            told_open: AtomicBool::new(false),
            told_frozen: AtomicU64::new(0),
            queue: Arc::default(),
            checkers: AtomicUsize::new(0),
            me: Weak::clone(me),
        })
    }

    pub(super) fn backend(&self, id: BackendId, weight: Weight) -> Arc<Backend> {
        let owner: Weak<Self> = Weak::clone(&self.me);
        Arc::new(Backend::owned(id, weight, owner))
    }

    /// Publishes a new list, with `weighed` where a weight or a locality in it has changed. Discovery brings the same list again and
    /// again: that costs no strategy a new table.
    pub(super) fn publish(&self, views: &mut Views<T>, members: Members<T>, weighed: bool) {
        let old = self.current.load_full();
        let base = self.judged(Snapshot { members: Arc::new(members), ..old.with_picker(Arc::new(())) });
        let (before, now) = (old.members.backends(), base.members.backends());
        let same = before.len() == now.len() && before.iter().zip(now).all(|(a, b)| Arc::ptr_eq(a, b));
        if same && !weighed { self.refresh(views, base) } else { self.rebuild(views, Arc::new(base)) }
    }

    /// Publishes `base` to every view with the picker that it has: for the same backends with the same weights.
    pub(super) fn refresh(&self, views: &mut Views<T>, base: Snapshot<T>) {
        views.retain(|view| view.upgrade().inspect(|view| view.refresh(&base)).is_some());
        self.current.store(Arc::new(base));
        self.queue.wake();
    }

    /// Publishes `base` to every view with a new picker. All are built before any is published: a strategy that panics
    /// while it builds leaves everything at the version before.
    pub(super) fn rebuild(&self, views: &mut Views<T>, base: Arc<Snapshot<T>>) {
        views.retain(|view| view.strong_count() > 0);
        let there: Vec<_> = views.iter().filter_map(Weak::upgrade).collect();
        let built: Vec<_> = there.iter().map(|view| view.build(&base)).collect();
        built.into_iter().for_each(|publish| publish());
        self.current.store(base);
        self.queue.wake();
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// The snapshot with those eligible that are by now.
    fn judged(&self, snapshot: Snapshot<T>) -> Snapshot<T> {
        let (eligible, is_open) = snapshot.fail_open.eligible(snapshot.members.backends(), snapshot.is_open);
        Snapshot { eligible: Arc::new(eligible), is_open, ..snapshot }
    }

    /// Tells whoever watches where the checks are no longer believed, or are again. With no lock held: who listens may want
    /// to change the pool.
    pub(super) fn announce(&self) {
        let current = self.current.load();
        let is_open = current.is_open;
        if self.told_open.swap(is_open, Ordering::Relaxed) != is_open {
            tracing::warn!(target: POOL_TARGET, is_open, policy = ?current.fail_open, "too few backends are well");
            if is_open {
                self.stats.opened();
            }
            self.tell(Change::FailOpen(is_open));
        }
    }

    pub(super) fn set_fail_open(&self, fail_open: FailOpen) {
        let mut views = self.lock();
        let base = Snapshot { fail_open, ..self.current.load().with_picker(Arc::new(())) };
        let base = self.judged(base);
        self.refresh(&mut views, base);
        drop(views);
        self.announce();
    }

    /// Lets time pass where something is due.
    #[cold]
    pub(super) fn advance(&self, now: Instant) {
        self.due.clear();
        let probed = self.checkers.load(Ordering::Relaxed) > 0;
        for backend in self.members().backends() {
            if let Some(due) = backend.advance(now, probed) {
                self.due.at(Moment::of(due));
            }
        }
        // Who has looked in between saw nothing due.
        self.queue.wake();
    }

    /// Whether most of the pool went within seconds, and not because the host wanted it: then something else is wrong than
    /// one backend.
    fn is_mass_event(&self, now: Instant) -> bool {
        let members = self.members();
        let just_gone = |peer: &&Arc<Backend>| {
            let health = peer.health();
            let is_out = matches!(health.state(), HealthState::Unhealthy | HealthState::Ejected);
            is_out && health.since().is_some_and(|since| now.saturating_duration_since(since) < MASS_WINDOW)
        };
        members.backends().iter().filter(just_gone).count() * 2 > members.backends().len()
    }

    /// Takes out one that is in, if it may go.
    fn let_go(&self, backend: &Backend, now: Instant, go: impl FnOnce(&Backend)) {
        let _leaving = locked(&self.leaving);
        if backend.is_eligible() && self.may_eject(backend, now) {
            go(backend);
        }
    }

    /// Whether one more of the tier and zone of `backend` may be ejected, and one that is well is left.
    fn may_eject(&self, backend: &Backend, now: Instant) -> bool {
        let members = self.members();
        let locality = backend.locality();
        let is_peer = |peer: &&Arc<Backend>| *peer.locality() == *locality && !std::ptr::eq(&***peer, backend);
        let peers: Vec<_> = members.backends().iter().filter(is_peer).map(|peer| peer.health()).collect();
        // One that is on trial may be out again with its next answer; but not for ever, where nothing is sent to it.
        let is_on_trial = |health: &Health| {
            let lately = health.since().is_some_and(|since| now.saturating_duration_since(since) < TRIAL);
            health.state() == HealthState::Probing && lately
        };
        let is_ejected = |health: &Health| health.is_ejected_for_answers() || is_on_trial(health);
        let ejected = peers.iter().filter(|health| is_ejected(health)).count();
        let is_one_left = peers.iter().any(|health| health.state() == HealthState::Healthy);
        is_one_left && ejected < self.judge.rules().most_of(peers.len() + 1)
    }
}

impl<T: Send + Sync + 'static> Owner for Shared<T> {
    fn due(&self, when: Instant) {
        self.due.at(Moment::of(when));
    }

    fn released(&self) {
        self.queue.wake();
    }

    fn backoff(&self) -> Backoff {
        self.judge.rules().backoff
    }

    fn judge(&self, backend: &Backend, is_fault: bool, now: Instant) {
        // One that is out already cannot go, and one that does well only for being slow.
        if !backend.is_eligible() || !(is_fault || self.judge.rules().minds_latency()) {
            return;
        }
        let Some((kind, cause)) = self.judge.judge(backend, self.members().backends(), now) else { return };
        if self.is_mass_event(now) {
            // Once a while: it goes on for some time, and with each request.
            let window = Moment::of(now).micros() / MASS_WINDOW.as_micros() as u64 + 1;
            if self.told_frozen.swap(window, Ordering::Relaxed) != window {
                tracing::warn!(target: POOL_TARGET, "most of the pool went within seconds: nobody is ejected for answers");
                self.stats.frozen();
                self.tell(Change::Frozen);
            }
            return;
        }
        self.let_go(backend, now, |backend| _ = backend.eject_for(kind, &cause, now));
    }

    fn broke_off(&self, backend: &Backend, cause: &str, now: Instant) {
        let _leaving = locked(&self.leaving);
        let current = self.current.load();
        let all = current.members.backends().len();
        let left = current.eligible.as_slice().len().saturating_sub(1);
        if backend.is_eligible() && (all == 1 || left * 2 >= all) {
            backend.eject_for(EjectionCause::Transport, cause, now);
        }
    }

    fn trial_failed(&self, backend: &Backend, now: Instant) {
        // Where too many are out without it, it stays on trial.
        self.let_go(backend, now, |backend| backend.trial_failed(now));
    }

    fn changed(&self) {
        self.announce();
        // One that was on trial takes more than one now.
        self.queue.wake();
    }

    fn health_changed(&self, backend: &Backend, health: &Health) -> bool {
        let mut views = self.lock();
        let current = self.current.load();
        let Some(index) = current.members.place(backend.id().as_str()) else { return false };
        // A backend that was removed still ends its requests; another may have its id by now.
        if !std::ptr::eq(&*current.members.backends()[index.get()], backend) {
            return false;
        }
        let base = current.with_picker(Arc::new(()));
        if current.fail_open != FailOpen::Reject {
            let base = self.judged(base);
            self.refresh(&mut views, base);
        } else if current.candidates().is_eligible(index) != backend.is_eligible() {
            let eligible = Arc::new(current.eligible.with(index, backend.is_eligible()));
            self.refresh(&mut views, Snapshot { eligible, ..base });
        }
        let cause = health.cause().unwrap_or_default().into();
        self.tell(Change::Health { id: backend.id().clone(), state: health.state(), cause });
        true
    }
}
