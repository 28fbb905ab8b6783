//! Every interleaving of our own atomics: the lease's counters, health under concurrent observations, the waiting
//! room's places. The very files of the crate are compiled here a second time, with loom's atomics in place of std's.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    missing_docs,
    reason = "the crate's files, of which a part is used"
)]

mod sync {
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    };

    pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }
}

#[path = "../src/ewma.rs"]
mod ewma;

#[path = "../src/hash.rs"]
mod hash;

#[path = "../src/rng.rs"]
mod rng;

#[path = "../src/backend/mod.rs"]
mod backend;

#[path = "../src/balance/slots.rs"]
mod slots;

#[path = "../src/pool/queue.rs"]
mod queue;

use backend::{Backend, Backoff, Health, HealthState, Lease, Outcome, Owner, Weight};
use loom::{future::block_on, thread};
use queue::{Promise, Queue};
use slots::Slots;
use std::{
    sync::{Arc, Weak},
    time::Instant,
};

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

/// Every interleaving with up to three switches forced upon a thread: all bugs that are known to be found are found with
/// two, and the number of interleavings stays small.
fn model(check: impl Fn() + Send + Sync + 'static) {
    model_of(3, check);
}

fn model_of(switches: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(check);
}

#[test]
fn leases_are_counted_exactly_however_they_end() {
    model(|| {
        let backend = Arc::new(Backend::new("a"));
        let ends: [fn(Lease); 2] = [|lease| lease.complete(Outcome::Success, now()), drop];
        let threads = ends.map(|end| {
            let backend = Arc::clone(&backend);
            thread::spawn(move || end(Lease::take(backend, now())))
        });
        let in_between = backend.load().in_flight();
        assert!(in_between <= 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let load = backend.load();
        assert_eq!((load.in_flight(), load.count(Outcome::Success), load.count(Outcome::Cancelled)), (0, 1, 1));
    });
}

#[test]
fn the_flag_that_pickers_read_follows_the_state() {
    model(|| {
        let backend = Arc::new(Backend::new("a"));
        let when = now();
        let sick = {
            let backend = Arc::clone(&backend);
            thread::spawn(move || backend.mark_unhealthy("refused", when))
        };
        let well = backend.mark_healthy("status: 200", when);
        let sick = sick.join().unwrap();
        // The first observation is news in any order, and so is one that contradicts it.
        assert!(sick && (well || !backend.is_eligible()));
        assert_eq!(backend.is_eligible(), backend.health().state() == HealthState::Healthy);
    });
}

#[test]
fn a_waiting_room_never_holds_more_than_its_places_and_gets_each_back() {
    model(|| {
        let slots = Slots::new(1);
        let threads = [(); 2].map(|()| {
            let slots = slots.clone();
            thread::spawn(move || slots.take().is_some())
        });
        let taken = threads.map(|thread| thread.join().unwrap()).into_iter().filter(|&taken| taken).count();
        assert!(taken >= 1);
        let held = slots.take();
        assert!(held.is_some() && slots.take().is_none(), "a place was lost or doubled");
    });
}

#[test]
fn a_backend_on_trial_has_one_request_at_a_time_and_loses_no_permit() {
    model(|| {
        let backend = Arc::new(Backend::new("a"));
        let start = now();
        backend.eject("test", start);
        let due = backend.health().until().unwrap();
        backend.advance(due, false);
        let threads = [(); 2].map(|()| {
            let backend = Arc::clone(&backend);
            // Cancelled, if it was taken at all.
            thread::spawn(move || Lease::try_take(&backend, 1.0, due).is_some())
        });
        let taken = threads.map(|thread| thread.join().unwrap());
        assert!(taken[0] || taken[1]);
        let lease = Lease::try_take(&backend, 1.0, due).expect("the permit was lost");
        assert!(Lease::try_take(&backend, 1.0, due).is_none(), "the permit was doubled");
        lease.complete(Outcome::Success, due);
        Lease::try_take(&backend, 1.0, due).unwrap().complete(Outcome::Success, due);
        assert_eq!(backend.health().state(), HealthState::Healthy);
    });
}

#[test]
fn a_limit_is_never_exceeded() {
    model(|| {
        let backend = Arc::new(Backend::new("a"));
        backend.set_limit(Some(1));
        let threads = [(); 2].map(|()| {
            let backend = Arc::clone(&backend);
            thread::spawn(move || {
                let lease = Lease::try_take(&backend, 1.0, now());
                assert!(backend.load().in_flight() <= 1);
                lease.is_some()
            })
        });
        let taken = threads.map(|thread| thread.join().unwrap());
        assert!(taken[0] || taken[1]);
        assert!(Lease::try_take(&backend, 1.0, now()).is_some());
    });
}

/// As much of a pool as those who wait for room need.
struct Pool {
    backend: Arc<Backend>,
    queue: Arc<Queue>,
}

/// The pool, as its backend knows it.
struct PoolOwner(Arc<Queue>);

impl Owner for PoolOwner {
    fn health_changed(&self, _: &Backend, _: &Health) -> bool {
        true
    }
    fn due(&self, _: Instant) {}
    fn judge(&self, _: &Backend, _: bool, _: Instant) {}
    fn broke_off(&self, _: &Backend, _: &str, _: Instant) {}
    fn trial_failed(&self, _: &Backend, _: Instant) {}
    fn changed(&self) {
        self.0.wake();
    }
    fn released(&self) {
        self.0.wake();
    }
    fn backoff(&self) -> Backoff {
        Backoff::default()
    }
}

impl Pool {
    fn with_limit(limit: u32) -> (Arc<Self>, Arc<PoolOwner>) {
        let queue = Arc::default();
        let owner = Arc::new(PoolOwner(Arc::clone(&queue)));
        let weak: Weak<PoolOwner> = Arc::downgrade(&owner);
        let backend = Arc::new(Backend::owned("a".into(), Weight::ONE, weak));
        backend.set_limit(Some(limit));
        (Arc::new(Self { backend, queue }), owner)
    }

    fn has_room(&self, promised: usize) -> bool {
        self.backend.room() as usize > promised
    }

    /// Waits, as `poll_ready` does.
    async fn ready(&self) -> Promise {
        if self.queue.lets_by()
            && let Some(promise) = self.queue.promise(|promised| self.has_room(promised))
        {
            return promise;
        }
        let place = self.queue.join();
        loop {
            place.turn().await;
            if let Some(promise) = self.queue.promise(|promised| self.has_room(promised)) {
                place.served(self.has_room(self.queue.promised()));
                return promise;
            }
        }
    }

    /// Does what was promised, as `call` does.
    fn call(&self, promise: Promise) -> Lease {
        let lease = Lease::try_take(&self.backend, 1.0, now()).expect("there was no room for what was promised");
        promise.kept(|promised| self.has_room(promised));
        lease
    }
}

#[test]
fn who_waits_is_woken_and_finds_the_room_that_it_was_promised() {
    model(|| {
        let (pool, _home) = Pool::with_limit(1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let promise = block_on(pool.ready());
                drop(pool.call(promise));
            })
        };
        // Without a wake-up this would never end, which is an error of the model.
        let promise = block_on(pool.ready());
        drop(pool.call(promise));
        other.join().unwrap();
        assert!(pool.queue.is_empty() && pool.queue.promised() == 0 && pool.has_room(0));
    });
}

#[test]
fn a_promise_or_a_place_that_is_given_up_goes_to_the_next() {
    let gives_up: [fn(&Pool); 2] = [|pool| drop(block_on(pool.ready())), |pool| drop(pool.queue.join())];
    for give_up in gives_up {
        model(move || {
            let (pool, _home) = Pool::with_limit(1);
            let other = {
                let pool = Arc::clone(&pool);
                thread::spawn(move || give_up(&pool))
            };
            let promise = block_on(pool.ready());
            drop(pool.call(promise));
            other.join().unwrap();
            assert!(pool.queue.is_empty() && pool.queue.promised() == 0 && pool.has_room(0));
        });
    }
}

#[test]
fn a_limit_that_is_raised_serves_all_who_wait() {
    // Three at once: with three switches there would be too many interleavings.
    model_of(2, || {
        let (pool, _home) = Pool::with_limit(0);
        let threads = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let promise = block_on(pool.ready());
                std::mem::forget(pool.call(promise));
            })
        });
        pool.backend.set_limit(Some(2));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(pool.queue.is_empty() && pool.queue.promised() == 0 && !pool.has_room(0));
    });
}

#[test]
fn what_changes_while_the_first_is_served_is_told_to_the_next() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let (first, second) = (queue.join(), queue.join());
        block_on(first.turn());
        let change = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.wake())
        };
        first.served(false);
        // It would wait for ever.
        block_on(second.turn());
        change.join().unwrap();
    });
}

#[test]
fn one_who_does_not_look_is_passed_over_and_loses_nothing_when_it_looks_after_all() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let (first, second) = (queue.join(), queue.join());
        let looks = thread::spawn(move || {
            // It came to an empty line, and so it was told. It looks as it is passed over, before or after.
            block_on(first.turn());
            first.served(true);
        });
        let mut seen = None;
        while !second.may_look(&mut seen) && seen.is_some() {
            thread::yield_now();
        }
        // Whoever was first, the other is told by now or will be.
        block_on(second.turn());
        looks.join().unwrap();
        drop(second);
        assert!(queue.is_empty());
    });
}
