//! When the checker asks whom, and how many answers it takes, in paused time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower_balancer::{
    BackendPool, BoxError, HealthChecker,
    backend::{HealthState, Lease, Outcome},
    health::Probe,
    pool::{Change, Member},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Backends that do as they are told, and a note of who was asked when: milliseconds since the start.
#[derive(Clone)]
struct Ward(Arc<Mutex<State>>);

struct State {
    start: Instant,
    asked: Vec<(u64, u32)>,
    ill: HashMap<u32, bool>,
    takes: HashMap<u32, Duration>,
    at_once: usize,
    most_at_once: usize,
}

impl Ward {
    fn new() -> Self {
        let (asked, ill, takes) = Default::default();
        Self(Arc::new(Mutex::new(State { start: Instant::now(), asked, ill, takes, at_once: 0, most_at_once: 0 })))
    }

    fn set_ill(&self, target: u32, ill: bool) {
        self.0.lock().unwrap().ill.insert(target, ill);
    }

    fn set_takes(&self, target: u32, takes: Duration) {
        self.0.lock().unwrap().takes.insert(target, takes);
    }

    /// Who was asked since this was last called.
    fn asked(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    /// The same without who.
    fn times(&self) -> Vec<u64> {
        self.asked().into_iter().map(|(at, _)| at).collect()
    }

    fn at_once(&self) -> usize {
        self.0.lock().unwrap().at_once
    }

    fn most_at_once(&self) -> usize {
        self.0.lock().unwrap().most_at_once
    }

    fn now(&self) -> u64 {
        self.0.lock().unwrap().start.elapsed().as_millis() as u64
    }
}

impl Probe<u32> for Ward {
    async fn check(&self, target: u32) -> Result<String, BoxError> {
        /// Also where the check is dropped.
        struct Ends(Ward);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.0.lock().unwrap().at_once -= 1;
            }
        }
        let now = self.now();
        let (takes, _ends) = {
            let mut state = self.0.lock().unwrap();
            state.asked.push((now, target));
            state.at_once += 1;
            state.most_at_once = state.most_at_once.max(state.at_once);
            (state.takes.get(&target).copied().unwrap_or_default(), Ends(self.clone()))
        };
        sleep(takes).await;
        let ill = self.0.lock().unwrap().ill.get(&target).copied().unwrap_or(false);
        if ill { Err("ill".into()) } else { Ok("well".to_owned()) }
    }
}

fn member(target: u32) -> Member<u32> {
    Member::new(target.to_string(), target)
}

fn pool(targets: impl IntoIterator<Item = u32>) -> BackendPool<u32> {
    BackendPool::from_members(targets.into_iter().map(member)).unwrap()
}

fn is_in(pool: &BackendPool<u32>, id: &str) -> bool {
    pool.get(id).unwrap().is_eligible()
}

/// A checker without chance.
fn checker(pool: &BackendPool<u32>, ward: &Ward) -> HealthChecker<u32, Ward> {
    HealthChecker::new(pool, ward.clone()).jitter(0.0)
}

#[tokio::test(start_paused = true)]
async fn all_are_asked_at_once_and_then_take_turns() {
    let ward = Ward::new();
    let pool = pool(0..8);
    tokio::spawn(checker(&pool, &ward).run());
    sleep(MS * 4_999).await;
    let asked = ward.asked();
    assert!(asked[..8].iter().all(|(at, _)| *at == 0));
    let mut times: Vec<_> = asked[8..].iter().map(|(at, _)| *at).chain([5_000]).collect();
    times.insert(0, 0);
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(times.len() == 9 && widest <= Some(1_250), "they lie evenly: {times:?}");
    // From now on each has its own rhythm.
    let mut second: Vec<_> = asked[8..].to_vec();
    second.iter_mut().for_each(|(at, _)| *at += 5_000);
    sleep(MS * 5_001).await;
    assert_eq!(ward.asked().into_iter().filter(|(_, target)| *target != 0).collect::<Vec<_>>(), second);
}

#[tokio::test(start_paused = true)]
async fn jitter_is_within_its_share_and_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let ward = Ward::new();
        let task = tokio::spawn(HealthChecker::new(&pool([1]), ward.clone()).jitter(0.2).seed(seed).run());
        sleep(SECOND * 300).await;
        task.abort();
        runs.push(ward.times());
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    // The second check is staggered, and a timer ends on a whole millisecond.
    let between: Vec<_> = runs[0][1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(between.len() > 45 && between.iter().all(|between| (3_999..=6_001).contains(between)), "{between:?}");
    assert!(between.iter().any(|between| *between < 4_200) && between.iter().any(|between| *between > 5_800));
}

#[tokio::test(start_paused = true)]
async fn a_slow_one_delays_nobody() {
    let ward = Ward::new();
    ward.set_takes(0, SECOND * 60);
    let pool = pool([0, 1]);
    tokio::spawn(checker(&pool, &ward).timeout(SECOND * 20).run());
    sleep(SECOND * 19).await;
    let asked = ward.asked();
    let count = |target| asked.iter().filter(|(_, asked)| *asked == target).count();
    assert_eq!((count(0), count(1)), (1, 5), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_asked_at_a_time_than_may_be_and_everybodys_turn_comes() {
    let ward = Ward::new();
    (0..10).for_each(|target| ward.set_takes(target, SECOND * 2));
    let pool = pool(0..10);
    let checker = checker(&pool, &ward).concurrency(3).interval(SECOND);
    let task = tokio::spawn(checker.run());
    sleep(MS * 79_500).await;
    task.abort();
    assert_eq!(ward.most_at_once(), 3);
    let asked = ward.asked();
    assert_eq!(asked.len(), 120, "three every two seconds");
    for target in 0..10 {
        let times: Vec<_> = asked.iter().filter(|(_, asked)| *asked == target).map(|(at, _)| *at).collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest <= Some(8_000) && times.last() > Some(&70_000), "{target} is passed over: {times:?}");
    }

    let ward = Ward::new();
    (0..10).for_each(|target| ward.set_takes(target, SECOND));
    HealthChecker::new(&pool, ward.clone()).concurrency(0).check_all().await;
    assert_eq!((ward.most_at_once(), ward.now()), (1, 10_000));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_on_one_checker() {
    let ward = Ward::new();
    for target in 0..10_000 {
        ward.set_takes(target, MS * 20);
        ward.set_ill(target, target % 10 == 0);
    }
    let pool = pool(0..10_000);
    tokio::spawn(HealthChecker::new(&pool, ward.clone()).seed(1).run());
    sleep(SECOND * 4).await;
    assert_eq!(pool.healthy().len(), 9_000, "the first checks of all fit into the limit");
    // By then those are made up for that were due meanwhile, and those that fail are none that restart.
    sleep(SECOND * 12).await;
    ward.asked();
    sleep(SECOND * 32).await;
    let mut seconds = [0; 32];
    ward.times().into_iter().for_each(|at| seconds[((at - 16_000) / 1_000) as usize] += 1);
    assert!(seconds.iter().all(|count| (1_700..2_300).contains(count)), "no bursts: {seconds:?}");
    assert!(ward.most_at_once() <= 64);
}

#[tokio::test(start_paused = true)]
async fn it_takes_as_many_results_in_a_row_as_it_should_and_the_first_decides_at_once() {
    let ward = Ward::new();
    ward.set_ill(2, true);
    let pool = pool([1, 2]);
    let checker = checker(&pool, &ward).unhealthy_threshold(3).healthy_threshold(2);
    checker.check_all().await;
    assert!(is_in(&pool, "1") && !is_in(&pool, "2"), "the first result");

    // Whether they are ill, and whether they are in after that.
    for (ill_1, ill_2, in_1, in_2) in [
        (true, false, true, false),
        (true, true, true, false),
        (false, false, true, false),
        (true, false, true, true),
        (true, true, true, true),
        (true, true, false, true),
        (true, true, false, false),
        (false, true, false, false),
        (false, true, true, false),
    ] {
        ward.set_ill(1, ill_1);
        ward.set_ill(2, ill_2);
        // A clone knows what the other has found out.
        checker.clone().check_all().await;
        assert_eq!((is_in(&pool, "1"), is_in(&pool, "2")), (in_1, in_2));
        sleep(MS).await;
    }

    // One that comes back under the same id is another one, even while the other still serves.
    let _serves = pool.get("2").unwrap();
    pool.replace([member(1)]).unwrap();
    pool.insert(member(2)).unwrap();
    checker.check_all().await;
    assert!(!is_in(&pool, "2"), "it was judged by what its predecessor did");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_confirms_the_state_brings_its_newest_cause() {
    let ward = Ward::new();
    let pool = pool([1]);
    pool.mark_unhealthy("1");
    let checker = checker(&pool, &ward).unhealthy_threshold(9);
    checker.check_all().await;
    ward.set_ill(1, true);
    checker.check_all().await;
    assert_eq!(pool.get("1").unwrap().health().cause(), Some("well"), "what does not count says nothing");
    sleep(MS).await;
    pool.mark_unhealthy("1");
    checker.check_all().await;
    assert_eq!(pool.get("1").unwrap().health().cause(), Some("ill"));
}

#[tokio::test(start_paused = true)]
async fn it_asks_fast_while_a_change_is_pending() {
    let ward = Ward::new();
    let pool = pool([1]);
    let checker = checker(&pool, &ward).unhealthy_threshold(3).healthy_threshold(2).fast_interval(MS * 500);
    tokio::spawn(checker.run());
    sleep(SECOND * 9).await;
    ward.set_ill(1, true);
    sleep(SECOND * 8).await;
    // Two that contradict, one that settles it, and five more in which it may be restarting.
    assert_eq!(ward.times(), [0, 5_000, 10_000, 10_500, 11_000, 11_500, 12_000, 12_500, 13_000, 13_500]);
    ward.set_ill(1, false);
    sleep(SECOND * 10).await;
    assert_eq!((ward.times(), is_in(&pool, "1")), (vec![18_500, 19_000, 24_000], true));
    // A single failure is forgotten by the next answer.
    ward.set_ill(1, true);
    sleep(MS * 2_100).await;
    ward.set_ill(1, false);
    sleep(MS * 5_000).await;
    assert_eq!((ward.times(), is_in(&pool, "1")), (vec![29_000, 29_500], true));
}

#[tokio::test(start_paused = true)]
async fn one_that_somebody_else_has_taken_out_is_asked_at_once_and_fast_until_it_is_settled() {
    let ward = Ward::new();
    let pool = pool([1, 2]);
    let checker = checker(&pool, &ward).healthy_threshold(3);
    tokio::spawn(checker.run());
    sleep(MS * 6_000).await;
    ward.asked();
    pool.mark_unhealthy("1");
    sleep(MS * 1_500).await;
    let of_1 = |asked: Vec<(u64, u32)>| asked.into_iter().filter(|(_, target)| *target == 1).collect::<Vec<_>>();
    assert_eq!(of_1(ward.asked()), [(6_000, 1), (7_000, 1)]);
    assert!(!is_in(&pool, "1"));
    sleep(SECOND * 6).await;
    assert_eq!(of_1(ward.asked()), [(8_000, 1), (13_000, 1)]);
    assert!(is_in(&pool, "1"), "the third answer settled it");

    // What the checker itself has found out is nobody else's word.
    ward.set_ill(1, true);
    sleep(SECOND * 10).await;
    let at = |times: &[u64]| times.iter().map(|at| (*at, 1)).collect::<Vec<_>>();
    assert_eq!(of_1(ward.asked()), at(&[18_000, 19_000, 20_000, 21_000, 22_000, 23_000]));
    assert!(!is_in(&pool, "1"));
    // It was right.
    pool.mark_healthy("1");
    sleep(MS * 100).await;
    pool.mark_unhealthy("1");
    sleep(SECOND * 6).await;
    assert_eq!(of_1(ward.asked()), at(&[23_600, 24_600, 25_600, 26_600, 27_600, 28_600]));
}

#[tokio::test(start_paused = true)]
async fn one_that_failed_a_request_is_asked_at_once_and_is_back_if_that_was_all() {
    let ward = Ward::new();
    ward.set_takes(1, MS * 10);
    let pool = pool([1, 2]);
    tokio::spawn(checker(&pool, &ward).run());
    sleep(SECOND).await;
    ward.asked();
    let failed = Instant::now().into_std();
    Lease::take(pool.get("1").unwrap(), failed).fail(Outcome::ConnectFault, "Connection refused", failed);
    assert!(!is_in(&pool, "1"));
    sleep(MS * 20).await;
    assert_eq!((ward.asked(), is_in(&pool, "1")), (vec![(1_000, 1)], true));
}

#[tokio::test(start_paused = true)]
async fn one_that_could_not_be_reached_is_not_tried_with_requests_while_a_checker_runs() {
    let ward = Ward::new();
    let pool = pool([1, 2]);
    let checker = checker(&pool, &ward).timeout(SECOND * 120);
    let task = tokio::spawn(checker.run());
    sleep(SECOND).await;
    ward.set_takes(1, SECOND * 60);
    let failed = Instant::now().into_std();
    Lease::take(pool.get("1").unwrap(), failed).fail(Outcome::ConnectFault, "Connection refused", failed);
    let state = async |after: u64| {
        sleep(SECOND * after as u32).await;
        pool.advance(Instant::now().into_std());
        pool.get("1").unwrap().health().state()
    };
    assert_eq!(state(30).await, HealthState::Ejected, "the check is under way");
    task.abort();
    assert_eq!(state(30).await, HealthState::Probing, "nobody else asks any more");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_drained_goes_on_being_checked_as_before() {
    let ward = Ward::new();
    let pool = pool([1, 2]);
    tokio::spawn(checker(&pool, &ward).unhealthy_threshold(2).healthy_threshold(2).run());
    sleep(MS * 1_000).await;
    ward.asked();
    let of_1 = || ward.asked().into_iter().filter(|(_, target)| *target == 1).map(|(at, _)| at).collect::<Vec<_>>();
    _ = pool.drain("1").unwrap();
    sleep(SECOND * 10).await;
    assert_eq!(of_1(), [5_000, 10_000], "the host's wish is no sign that it is not well");
    ward.set_ill(1, true);
    sleep(MS * 10_500).await;
    assert_eq!(of_1(), [15_000, 16_000, 17_000, 18_000, 19_000, 20_000, 21_000]);
    pool.enable("1");
    sleep(MS * 100).await;
    assert_eq!((of_1(), is_in(&pool, "1")), (vec![], false), "what was found out meanwhile holds");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_ejected_for_its_answers_is_asked_at_once_and_does_not_come_back_by_that() {
    let ward = Ward::new();
    let pool = pool([1, 2]);
    tokio::spawn(checker(&pool, &ward).run());
    sleep(MS * 1_000).await;
    ward.asked();
    pool.get("1").unwrap().eject("5 failures in a row", Instant::now().into_std());
    sleep(MS * 900).await;
    assert_eq!(ward.asked(), [(1_000, 1)]);
    assert_eq!(pool.get("1").unwrap().health().state(), HealthState::Ejected);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_somebody_elses_word_is_asked_for_again_at_once() {
    let ward = Ward::new();
    ward.set_takes(1, SECOND);
    let pool = pool([1]);
    tokio::spawn(checker(&pool, &ward).healthy_threshold(2).run());
    sleep(MS * 5_500).await;
    pool.mark_unhealthy("1");
    sleep(MS * 1_000).await;
    assert_eq!((ward.times(), is_in(&pool, "1")), (vec![0, 5_000, 6_000], false));
    sleep(MS * 2_000).await;
    assert_eq!((ward.times(), is_in(&pool, "1")), (vec![7_000], true), "two later answers, not the older one");
}

#[tokio::test(start_paused = true)]
async fn the_long_dead_are_asked_less_often_until_they_are_back() {
    let of_1 =
        |ward: &Ward| ward.asked().into_iter().filter(|(_, target)| *target == 1).map(|(at, _)| at).collect::<Vec<_>>();
    let ward = Ward::new();
    ward.set_ill(1, true);
    let pool = pool([1, 2]);
    let task = tokio::spawn(checker(&pool, &ward).interval(SECOND).run());
    sleep(MS * 30_500).await;
    assert_eq!(of_1(&ward), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 21, 27].map(|second| second * 1_000));
    ward.set_ill(1, false);
    sleep(MS * 5_000).await;
    assert_eq!((of_1(&ward), is_in(&pool, "1")), (vec![33_000, 34_000, 35_000], true));
    task.abort();

    // Turned off; or nobody is left, and the first one to be back is waited for.
    for (off, other_is_ill) in [(Duration::ZERO, false), (SECOND * 6, true)] {
        let ward = Ward::new();
        ward.set_ill(1, true);
        ward.set_ill(2, other_is_ill);
        let task = tokio::spawn(checker(&pool, &ward).interval(SECOND).down_interval(off).run());
        sleep(MS * 30_500).await;
        assert_eq!(of_1(&ward).len(), 31);
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn new_ones_are_out_until_they_are_checked_where_that_is_wanted() {
    let ward = Ward::new();
    (1..=4).for_each(|target| ward.set_takes(target, SECOND));
    ward.set_ill(2, true);
    let pool = pool([1, 2, 3]);
    pool.mark_healthy("3");
    let checker = checker(&pool, &ward).out_until_checked().healthy_threshold(5);
    let task = tokio::spawn(checker.run());
    sleep(MS * 500).await;
    assert_eq!(pool.get("1").unwrap().health().cause(), Some("not checked yet"));
    assert!(!is_in(&pool, "1") && !is_in(&pool, "2") && is_in(&pool, "3"), "the host has spoken for the third");
    pool.insert(member(4)).unwrap();
    sleep(MS * 600).await;
    assert!(is_in(&pool, "1") && !is_in(&pool, "2") && is_in(&pool, "3") && !is_in(&pool, "4"));
    sleep(MS * 500).await;
    assert!(is_in(&pool, "4"));
    task.abort();
    // A check that is not the first of its backend keeps nobody out.
    let checking = tokio::spawn(async move { checker.check_all().await });
    sleep(MS * 500).await;
    assert_eq!(pool.healthy().len(), 3);
    checking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_is_forgotten_and_its_check_dropped() {
    let ward = Ward::new();
    ward.set_takes(1, SECOND);
    let pool = pool([1, 2]);
    let checker = checker(&pool, &ward).unhealthy_threshold(2);
    tokio::spawn(checker.run());
    sleep(MS * 500).await;
    let old = pool.get("1").unwrap();
    assert_eq!(ward.at_once(), 1);
    pool.remove("1");
    sleep(MS).await;
    assert_eq!(ward.at_once(), 0, "its check goes on");
    pool.insert(member(1)).unwrap();
    sleep(MS * 10).await;
    assert_eq!(ward.asked(), [(0, 1), (0, 2), (501, 1)]);
    assert_eq!(old.health().cause(), None, "it was marked all the same");

    // Away and back between two looks is another one too.
    sleep(MS * 1_100).await;
    ward.asked();
    ward.set_ill(1, true);
    pool.remove("1");
    pool.insert(member(1)).unwrap();
    sleep(MS * 1_100).await;
    assert_eq!(ward.asked().first(), Some(&(1_611, 1)));
    assert!(!is_in(&pool, "1"), "the first result decides at once");
}

#[tokio::test(start_paused = true)]
async fn a_new_target_of_the_same_backend_is_asked_next() {
    let ward = Ward::new();
    let pool = pool([1]);
    tokio::spawn(checker(&pool, &ward).run());
    sleep(MS).await;
    pool.replace([Member::new("1", 7)]).unwrap();
    sleep(SECOND * 5).await;
    assert_eq!(ward.asked(), [(0, 1), (5_000, 7)]);
}

#[tokio::test(start_paused = true)]
async fn more_changes_than_can_be_heard_are_made_up_for() {
    let ward = Ward::new();
    let pool = pool(0..1_000);
    tokio::spawn(checker(&pool, &ward).run());
    sleep(SECOND).await;
    ward.asked();
    pool.replace((500..1_500).map(member)).unwrap();
    sleep(MS).await;
    let mut new: Vec<_> =
        ward.asked().into_iter().map(|(_, target)| target).filter(|target| *target >= 1_000).collect();
    new.sort_unstable();
    assert_eq!(new, (1_000..1_500).collect::<Vec<_>>());
    sleep(SECOND * 20).await;
    assert!(ward.asked().iter().all(|(_, target)| *target >= 500));

    (500..1_500).for_each(|target| _ = pool.mark_unhealthy(&target.to_string()));
    sleep(MS).await;
    assert_eq!((ward.asked().len(), pool.healthy().len()), (1_000, 1_000), "all are asked at once");
}

#[tokio::test(start_paused = true)]
async fn while_there_is_nothing_to_ask_with_nobody_is_marked_and_it_is_tried_again() {
    let pool = pool([1]);
    pool.mark_unhealthy("1");
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let exhausted = move |_: u32| {
        *count.lock().unwrap() += 1;
        async { Err(BoxError::from(std::io::Error::from_raw_os_error(24))) }
    };
    tokio::spawn(HealthChecker::new(&pool, exhausted).jitter(0.0).run());
    sleep(MS * 2_500).await;
    assert_eq!((*asked.lock().unwrap(), is_in(&pool, "1")), (3, false));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_before_there_is_a_future_is_a_failure_too() {
    let pool = pool([1, 2]);
    let probe = |target: u32| {
        assert_ne!(target, 1, "a bug in a probe");
        async { Ok("well".to_owned()) }
    };
    tokio::spawn(HealthChecker::new(&pool, probe).run());
    sleep(MS).await;
    assert_eq!(pool.get("1").unwrap().health().cause(), Some("the probe panicked"));
    assert!(is_in(&pool, "2"));
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once_and_a_checker_does_not_take_fright_at_its_own() {
    let ward = Ward::new();
    let pool = pool([1]);
    let mut watch = pool.watch();
    tokio::spawn(checker(&pool, &ward).run());
    sleep(MS * 4_000).await;
    ward.set_ill(1, true);
    sleep(SECOND * 10).await;
    // It may be restarting, for so long.
    assert_eq!(ward.times(), [0, 5_000, 6_000, 7_000, 8_000, 9_000, 10_000]);
    let change = |state, cause: &str| Change::Health { id: "1".into(), state, cause: cause.into() };
    assert_eq!(watch.next().await, Some(change(HealthState::Healthy, "well")));
    assert_eq!(watch.next().await, Some(change(HealthState::Unhealthy, "ill")));
    assert!(tokio::time::timeout(SECOND / 10, watch.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_nobody_is_asked_who_is_due_while_others_have_not_answered() {
    let ward = Ward::new();
    ward.set_takes(1, SECOND * 3);
    let pool = pool([1, 2]);
    let checker = checker(&pool, &ward).interval(SECOND).timeout(SECOND * 5);
    let task = tokio::spawn(checker.run());
    sleep(MS * 100).await;
    checker.stop();
    sleep(SECOND).await;
    pool.insert(member(3)).unwrap();
    task.await.unwrap();
    assert_eq!((ward.asked(), ward.now()), (vec![(0, 1), (0, 2)], 3_000));
}
