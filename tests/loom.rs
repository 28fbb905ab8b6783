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

use backend::{Backend, HealthState, Lease, Outcome};
use loom::thread;
use slots::Slots;
use std::{sync::Arc, time::Instant};

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

/// Every interleaving with up to three switches forced upon a thread: all bugs that are known to be found are found with
/// two, and the number of interleavings stays small.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
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
