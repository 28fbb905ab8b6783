//! The checker's promises, in paused time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower_balancer::{
    BackendPool, BoxError, HealthChecker,
    backend::HealthState,
    health::{Probe, TcpProbe},
    pool::Member,
};

/// What each probe of a test does, and when it was asked: milliseconds since the start and the target.
#[derive(Clone)]
struct Script {
    asked: Arc<Mutex<Vec<(u128, u32)>>>,
    start: Instant,
    takes: fn(u32) -> Duration,
}

impl Script {
    fn new(takes: fn(u32) -> Duration) -> Self {
        Self { asked: Arc::default(), start: Instant::now(), takes }
    }

    fn asked(&self) -> Vec<(u128, u32)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Probe<u32> for Script {
    async fn check(&self, target: u32) -> Result<String, BoxError> {
        self.asked.lock().unwrap().push((self.start.elapsed().as_millis(), target));
        sleep((self.takes)(target)).await;
        Ok("well".to_owned())
    }
}

fn pool(targets: &[u32]) -> BackendPool<u32> {
    BackendPool::from_members(targets.iter().map(|target| Member::new(target.to_string(), *target))).unwrap()
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn it_checks_at_once_and_then_after_every_interval() {
    let script = Script::new(|_| Duration::ZERO);
    let checker = HealthChecker::new(&pool(&[1]), script.clone()).jitter(0.0);
    tokio::spawn(checker.run());
    sleep(Duration::from_millis(12_500)).await;
    assert_eq!(script.asked(), [(0, 1), (5_000, 1), (10_000, 1)]);
}

#[tokio::test(start_paused = true)]
async fn all_are_asked_at_the_same_time_and_a_slow_one_delays_nobodys_mark() {
    let pool = pool(&[0, 2_000, 9_000]);
    let script = Script::new(|target| MS * target);
    let checker = HealthChecker::new(&pool, script.clone());
    let mut watch = pool.watch();
    let round = tokio::spawn(async move { checker.check_all().await });
    let mut seen = Vec::new();
    for _ in 0..3 {
        watch.next().await;
        seen.push(script.start.elapsed().as_millis());
    }
    round.await.unwrap();
    assert_eq!(script.asked(), [(0, 0), (0, 2_000), (0, 9_000)]);
    assert_eq!(seen, [0, 2_000, 3_000], "marked when the answer was there, the last when its time was over");
    assert_eq!(pool.get("9000").unwrap().health().cause(), Some("no answer within 3s"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_question_from_before_a_failure_does_not_undo_it() {
    let pool = pool(&[1]);
    let checker = HealthChecker::new(&pool, Script::new(|_| MS * 1_000));
    let round = tokio::spawn({
        let checker = checker.clone();
        async move { checker.check_all().await }
    });
    sleep(MS * 500).await;
    pool.mark_unhealthy("1");
    round.await.unwrap();
    assert_eq!(pool.healthy().len(), 0, "the late answer put it back");
    checker.check_all().await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_unhealthy_are_asked_too() {
    let pool = pool(&[1, 2]);
    pool.mark_unhealthy("1");
    let script = Script::new(|_| Duration::ZERO);
    HealthChecker::new(&pool, script.clone()).check_all().await;
    assert_eq!(script.asked(), [(0, 1), (0, 2)]);
    assert_eq!(pool.healthy().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_joins_is_checked_at_once_and_one_that_leaves_no_more() {
    let pool = pool(&[1]);
    let script = Script::new(|_| Duration::ZERO);
    tokio::spawn(HealthChecker::new(&pool, script.clone()).jitter(0.0).run());
    sleep(MS).await;
    pool.insert(Member::new("2", 2)).unwrap();
    pool.remove("1");
    sleep(Duration::from_secs(5)).await;
    // The second one to join is ahead of the first by the golden share of an interval, from its first check on.
    assert_eq!(script.asked(), [(0, 1), (1, 2), (1_911, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_while_one_runs_does_nothing() {
    let script = Script::new(|_| MS);
    let checker = HealthChecker::new(&pool(&[1]), script.clone()).jitter(0.0);
    let first = tokio::spawn(checker.run());
    sleep(MS).await;
    checker.run().await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(script.asked(), [(0, 1), (5_000, 1)]);
    assert!(!first.is_finished());
}

#[tokio::test(start_paused = true)]
async fn stop_lets_the_checks_in_flight_finish_and_begins_no_other() {
    let pool = pool(&[1]);
    pool.mark_unhealthy("1");
    let script = Script::new(|_| MS * 1_000);
    let checker = HealthChecker::new(&pool, script.clone());
    let task = tokio::spawn(checker.run());
    sleep(MS * 100).await;
    checker.stop();
    sleep(MS * 100).await;
    assert!(!task.is_finished(), "the checks in flight were interrupted");
    task.await.unwrap();
    assert_eq!(script.start.elapsed().as_millis(), 1_000);
    assert_eq!(pool.healthy().len(), 1, "the last answer was thrown away");
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn stop_between_two_checks_ends_the_run_at_once() {
    let checker = HealthChecker::new(&pool(&[1]), Script::new(|_| Duration::ZERO));
    let task = tokio::spawn(checker.run());
    sleep(MS * 100).await;
    let stopped = Instant::now();
    checker.stop();
    task.await.unwrap();
    assert_eq!(stopped.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn stop_without_a_run_says_nothing_about_the_next_one() {
    let script = Script::new(|_| Duration::ZERO);
    let checker = HealthChecker::new(&pool(&[1]), script.clone());
    checker.stop();
    tokio::spawn(checker.run());
    sleep(MS).await;
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn stop_before_the_run_is_first_polled_ends_it() {
    let script = Script::new(|_| Duration::ZERO);
    let checker = HealthChecker::new(&pool(&[1]), script.clone());
    let task = tokio::spawn(checker.run());
    checker.stop();
    task.await.unwrap();
    assert_eq!(script.asked(), []);

    // A run that is never polled is over when it is dropped.
    drop(checker.run());
    tokio::spawn(checker.run());
    sleep(MS).await;
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn checks_that_take_longer_than_the_interval_follow_each_other_and_are_not_made_up_for() {
    let pool = pool(&[1]);
    let script = Script::new(|_| MS * 2_500);
    let checker = HealthChecker::new(&pool, script.clone()).interval(MS * 1_000);
    let task = tokio::spawn(checker.run());
    sleep(MS * 5_500).await;
    assert_eq!(script.asked(), [(0, 1), (2_500, 1), (5_000, 1)]);
    // The next one is due already; a stop goes before it.
    checker.stop();
    task.await.unwrap();
    assert_eq!((script.start.elapsed().as_millis(), script.asked().len()), (7_500, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_a_failure_of_its_backend_and_of_nobody_else() {
    let pool = pool(&[1, 2]);
    let checker = HealthChecker::new(&pool, |target: u32| async move {
        assert_ne!(target, 1, "a bug in a probe");
        Ok("well".to_owned())
    });
    checker.check_all().await;
    assert_eq!(pool.get("1").unwrap().health().cause(), Some("the probe panicked"));
    assert_eq!(pool.get("2").unwrap().health().cause(), Some("well"));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_finds_no_descriptor_to_ask_with_says_nothing_about_its_backend() {
    let pool = pool(&[1, 2]);
    pool.mark_unhealthy("2");
    let exhausted = |_: u32| async { Err(BoxError::from(std::io::Error::from_raw_os_error(24))) };
    HealthChecker::new(&pool, exhausted).check_all().await;
    assert!(pool.get("1").unwrap().is_eligible() && !pool.get("2").unwrap().is_eligible());
}

#[tokio::test(start_paused = true)]
async fn stop_and_run_again_within_one_check_leaves_one_run() {
    let script = Script::new(|_| MS * 1_000);
    let checker = HealthChecker::new(&pool(&[1]), script.clone()).jitter(0.0);
    let old = tokio::spawn(checker.run());
    sleep(MS * 100).await;
    checker.stop();
    let new = tokio::spawn(checker.run());
    sleep(Duration::from_millis(10_500)).await;
    assert!(old.is_finished() && !new.is_finished());
    let asked: Vec<_> = script.asked().into_iter().map(|(at, _)| at).collect();
    assert_eq!(asked, [0, 100, 5_100, 10_100]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_aborts_the_checks_at_once_marks_nobody_and_leaves_room_for_another() {
    let pool = pool(&[1]);
    pool.mark_unhealthy("1");
    let script = Script::new(|_| MS * 1_000);
    let checker = HealthChecker::new(&pool, script.clone());
    let task = tokio::spawn(checker.run());
    sleep(MS * 100).await;
    task.abort();
    sleep(Duration::from_secs(20)).await;
    assert_eq!((script.asked().len(), pool.healthy().len()), (1, 0));

    tokio::spawn(checker.run());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn a_tcp_probe_takes_an_open_port_for_well_and_a_closed_one_for_not() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pool = BackendPool::from_members([Member::new("tcp", address)]).unwrap();
    let checker = HealthChecker::new(&pool, TcpProbe);
    checker.check_all().await;
    assert_eq!(pool.backends()[0].health().cause(), Some("connected"));

    drop(listener);
    checker.check_all().await;
    let health = pool.backends()[0].health();
    assert_eq!((health.state(), health.cause()), (HealthState::Unhealthy, Some("Connection refused")));
}

#[cfg(feature = "http")]
#[tokio::test]
async fn a_tcp_probe_asks_at_an_origins_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = BackendPool::new([format!("http://{}", listener.local_addr().unwrap())]).unwrap();
    let checker = HealthChecker::new(&pool, TcpProbe);
    checker.check_all().await;
    assert_eq!(pool.healthy().len(), 1);
    drop(listener);
    checker.check_all().await;
    assert_eq!(pool.healthy().len(), 0);
}
