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
