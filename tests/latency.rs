//! What requests say about how fast a backend is.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tower_balancer::backend::{Backend, Latency, Lease, Moment, Outcome};

/// The first moment that this process hears of, so that none of a test's is before it.
static START: LazyLock<Instant> = LazyLock::new(|| {
    let start = tokio::time::Instant::now().into_std();
    Moment::of(start);
    start
});

/// A backend and a clock of its own.
struct World {
    backend: Arc<Backend>,
    start: Instant,
}

impl World {
    fn new() -> Self {
        Self { backend: Arc::new(Backend::new("a")), start: *START }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn begin(&self, seconds: f64) -> Lease {
        Lease::take(Arc::clone(&self.backend), self.at(seconds))
    }

    /// A request that ended so at that time, after so many seconds.
    fn took(&self, outcome: Outcome, seconds: f64, end: f64) {
        self.begin(end - seconds).complete(outcome, self.at(end));
    }

    fn latency(&self) -> &Latency {
        self.backend.load().latency()
    }

    fn moment(&self, seconds: f64) -> Moment {
        Moment::of(self.at(seconds))
    }

    fn mean(&self, seconds: f64) -> f64 {
        self.latency().mean(self.moment(seconds)).unwrap().value
    }

    fn peak(&self, seconds: f64) -> f64 {
        self.latency().peak(self.moment(seconds)).unwrap()
    }

    fn age(&self, seconds: f64) -> f64 {
        self.latency().mean_age(self.moment(seconds)).as_secs_f64()
    }
}

fn near(measured: f64, expected: f64) -> bool {
    (measured - expected).abs() < 1e-3 * expected.max(1.0)
}

#[test]
fn the_mean_takes_the_first_samples_evenly_and_remembers_about_forty() {
    let world = World::new();
    assert_eq!(world.latency().mean(world.moment(0.0)), None);
    for seconds in [1.0, 2.0, 3.0] {
        world.took(Outcome::Success, seconds, 9.0);
    }
    assert!(near(world.mean(9.0), 2.0));
    for _ in 0..200 {
        world.took(Outcome::ClientFault, 5.0, 20.0);
    }
    let mean = world.latency().mean(world.moment(23.0)).unwrap();
    assert!(near(mean.value, 5.0) && near(mean.idle, 3.0), "{mean:?}");
}

#[test]
fn an_odd_sample_counts_as_five_times_the_mean_and_many_of_them_show() {
    let world = World::new();
    for _ in 0..40 {
        world.took(Outcome::Success, 1.0, 9.0);
    }
    world.took(Outcome::Success, 100.0, 109.0);
    assert!(near(world.mean(109.0), 1.1));
    for _ in 0..20 {
        world.took(Outcome::Success, 100.0, 209.0);
    }
    assert!(world.mean(209.0) > 5.0);
}

#[test]
fn a_failure_is_no_sample_of_the_latency_and_a_timeout_only_of_more() {
    let world = World::new();
    world.took(Outcome::Success, 2.0, 9.0);
    world.took(Outcome::BackendFault, 0.001, 9.0);
    world.took(Outcome::Timeout, 1.0, 9.0);
    world.took(Outcome::Lost, 9.0, 9.0);
    drop(world.begin(1.0));
    world.begin(8.0).give_up(world.at(9.0));
    assert!(near(world.mean(9.0), 2.0));
    let faults = world.latency().faults(world.moment(9.0)).unwrap();
    assert!((0.4..0.9).contains(&faults.value), "{faults:?}");
    world.took(Outcome::Timeout, 8.0, 9.0);
    assert!(near(world.mean(9.0), 4.0));
}

#[test]
fn what_was_given_up_took_at_least_as_long() {
    let world = World::new();
    for _ in 0..40 {
        world.took(Outcome::Success, 1.0, 9.0);
    }
    for (waited, mean) in [(0.5, 1.0), (3.0, 1.05), (100.0, 1.155)] {
        world.begin(200.0 - waited).give_up(world.at(200.0));
        assert!(near(world.mean(200.0), mean), "{waited}: {}", world.mean(200.0));
    }
    assert_eq!(world.age(200.0), 0.0);
    // What has begun is known.
    let mut answered = world.begin(199.0);
    answered.answered(Outcome::Success, world.at(200.0));
    let mean = world.mean(200.0);
    answered.give_up(world.at(300.0));
    assert!(near(world.mean(300.0), mean));
}

#[test]
fn the_peak_jumps_up_and_decays_as_finagle_has_it() {
    let world = World::new();
    world.took(Outcome::Success, 1.0, 1.0);
    for (seconds, left) in [(1.0, 0.905), (5.0, 0.607), (10.0, 0.368), (23.0, 0.100)] {
        assert!((world.peak(1.0 + seconds) - left).abs() < 1e-3, "{seconds}");
    }
    world.took(Outcome::Success, 0.0, 11.0);
    assert!((world.peak(11.0) - 0.368).abs() < 1e-3);
    world.took(Outcome::Success, 3.0, 11.0);
    assert!(near(world.peak(11.0), 3.0));
}

#[test]
fn a_failure_is_a_peak_however_fast_it_is() {
    let world = World::new();
    world.took(Outcome::Success, 0.01, 1.0);
    world.took(Outcome::BackendFault, 0.001, 1.0);
    assert!(near(world.peak(1.0), 1.0));
}

#[test]
fn requests_that_wait_show_their_age_and_those_whose_answer_has_begun_do_not() {
    let world = World::new();
    assert_eq!(world.age(9.0), 0.0);
    let mut first = world.begin(1.0);
    let second = world.begin(3.0);
    assert!(near(world.age(4.0), 2.0));
    first.answered(Outcome::Success, world.at(4.0));
    assert!(near(world.age(4.0), 1.0) && world.age(2.0) == 0.0);
    drop(second);
    assert_eq!(world.age(9.0), 0.0);
    assert_eq!(world.backend.load().in_flight(), 1);

    // However long the body is, the latency is that of its head.
    first.complete(Outcome::Success, world.at(600.0));
    assert!(near(world.mean(600.0), 3.0));
    assert_eq!(world.backend.load().in_flight(), 0);
}

#[test]
fn many_that_wait_for_long_are_added_up_rightly() {
    let world = World::new();
    let leases: Vec<_> = (0..1_000).map(|_| world.begin(1.0)).collect();
    assert!(near(world.age(100_000.0), 99_999.0), "{}", world.age(100_000.0));
    drop(leases);
}

#[test]
fn odd_times_are_harmless() {
    let world = World::new();
    world.took(Outcome::Success, 0.0, 1e9);
    world.begin(5.0).complete(Outcome::Success, world.at(4.0));
    let mean = world.latency().mean(world.moment(3.0)).unwrap();
    assert!(mean.value.is_finite(), "{mean:?}");
    assert_eq!(Latency::default().peak(world.moment(0.0)), None);
}
