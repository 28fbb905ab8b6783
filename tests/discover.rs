//! What a pool makes of what a source says, in paused time.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tower_balancer::{
    BackendPool, BoxError, Discoverer, Rng,
    backend::{Backend, Backoff, HealthState, Lease, Outcome, Weight},
    discover::{Change, Endpoint, Guard, Source, TowerSource, Update},
    pool::{Change as PoolChange, Member},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Said = Option<Result<Update<u32>, BoxError>>;

/// Says what it is told to say, and what it said last when it has to look again.
struct Script {
    said: mpsc::UnboundedReceiver<Said>,
    looks: Option<Arc<AtomicU32>>,
}

/// Who tells it.
type Prompter = mpsc::UnboundedSender<Said>;

impl Source<u32> for Script {
    async fn next(&mut self) -> Said {
        self.said.recv().await.unwrap_or_default()
    }

    fn look_again(&mut self) -> bool {
        self.looks.as_ref().inspect(|looks| _ = looks.fetch_add(1, Ordering::Relaxed)).is_some()
    }

    fn name(&self) -> String {
        "script".to_owned()
    }
}

fn script() -> (Prompter, Script) {
    let (prompter, said) = mpsc::unbounded_channel();
    (prompter, Script { said, looks: None })
}

/// A script whose second looks are counted.
fn looking_script() -> (Prompter, Arc<AtomicU32>, Script) {
    let (prompter, script) = script();
    let looks = Arc::<AtomicU32>::default();
    (prompter, Arc::clone(&looks), Script { looks: Some(looks), ..script })
}

fn member(target: u32) -> Member<u32> {
    Member::new(target.to_string(), target)
}

fn set(targets: impl IntoIterator<Item = u32>) -> Said {
    Some(Ok(Update::set(targets.into_iter().map(member))))
}

fn pool() -> BackendPool<u32> {
    BackendPool::from_members([]).unwrap()
}

fn ids<'a>(backends: impl IntoIterator<Item = &'a Arc<Backend>>) -> Vec<String> {
    backends.into_iter().map(|backend| backend.id().to_string()).collect()
}

fn there(pool: &BackendPool<u32>) -> Vec<String> {
    ids(&pool.backends())
}

fn picked_from(pool: &BackendPool<u32>) -> Vec<String> {
    ids(&pool.healthy())
}

fn list(targets: impl IntoIterator<Item: Display>) -> Vec<String> {
    targets.into_iter().map(|target| target.to_string()).collect()
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[tokio::test(start_paused = true)]
async fn a_weight_that_the_host_has_set_holds_until_the_source_says_another() {
    let (prompter, script) = script();
    let pool = pool();
    tokio::spawn(Discoverer::new(&pool, script).run());
    let weight = |weight: f64| Weight::new(weight).unwrap();
    let says =
        |of_one: f64| prompter.send(Some(Ok(Update::set([member(1).weight(weight(of_one)), member(2)])))).unwrap();
    let weights = || pool.backends().iter().map(|backend| backend.weight()).collect::<Vec<_>>();
    says(2.0);
    sleep(MS).await;
    assert_eq!(weights(), [2.0, 1.0]);
    pool.set_weight("1", weight(0.5));
    pool.set_weight("2", weight(7.0));
    // What it has said before, it says again with every answer.
    for _ in 0..2 {
        says(2.0);
        sleep(MS).await;
        assert_eq!(weights(), [0.5, 7.0]);
    }
    says(3.0);
    sleep(MS).await;
    assert_eq!(weights(), [3.0, 7.0]);
    // One that has left and is back is another.
    prompter.send(Some(Ok(Update::changes([Change::Remove("2".into())])))).unwrap();
    sleep(SECOND).await;
    says(3.0);
    sleep(MS).await;
    assert_eq!(weights(), [3.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn who_stays_keeps_counters_and_health_and_changes_in_place() {
    let (prompter, script) = script();
    let pool = pool();
    tokio::spawn(Discoverer::new(&pool, script).run());
    prompter.send(set([1, 2])).unwrap();
    sleep(MS).await;
    let one = pool.get("1").unwrap();
    Lease::take(Arc::clone(&one), now()).complete(Outcome::BackendFault, now());
    pool.mark_unhealthy("1");

    let heavier = Member::new("1", 10).weight(Weight::new(3.0).unwrap()).zone("b").priority(1);
    prompter.send(Some(Ok(Update::set([heavier, member(3), member(2)])))).unwrap();
    sleep(MS).await;
    let members = pool.members();
    let (same, target) = members.find("1").unwrap();
    assert!(Arc::ptr_eq(same, &one));
    assert_eq!((*target, one.weight(), one.load().count(Outcome::BackendFault)), (10, 3.0, 1));
    assert_eq!((one.locality().priority, one.locality().zone.as_deref()), (1, Some("b")));
    assert_eq!((there(&pool), picked_from(&pool)), (list([1, 2, 3]), list([2, 3])));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_drained_and_removed_when_it_has_no_request_left() {
    let (prompter, script) = script();
    let pool = pool();
    let discoverer = Discoverer::new(&pool, script);
    tokio::spawn(discoverer.run());
    prompter.send(set([1, 2, 3, 4])).unwrap();
    sleep(MS).await;
    let busy = Lease::take(pool.get("1").unwrap(), now());
    prompter.send(Some(Ok(Update::changes([Change::Remove("1".into()), Change::Remove("2".into())])))).unwrap();
    sleep(MS).await;
    assert_eq!(picked_from(&pool), list([3, 4]));
    let health = pool.get("1").unwrap().health();
    assert_eq!((health.state(), health.cause()), (HealthState::Draining, Some("its source no longer lists it")));
    // Sessions may go on there.
    assert!(pool.get("1").unwrap().is_draining(now(), SECOND));

    sleep(SECOND).await;
    assert_eq!(there(&pool), list([1, 3, 4]), "2 has nothing to do");
    busy.complete(Outcome::Success, now());
    sleep(SECOND).await;
    assert_eq!(there(&pool), list([3, 4]));
}

#[tokio::test(start_paused = true)]
async fn who_has_requests_for_ever_is_removed_after_the_time_for_draining() {
    let (prompter, script) = script();
    let pool = pool();
    tokio::spawn(Discoverer::new(&pool, script).drain(SECOND * 5).run());
    prompter.send(set([1, 2])).unwrap();
    sleep(MS).await;
    let endless = Lease::take(pool.get("1").unwrap(), now());
    prompter.send(set([2])).unwrap();
    sleep(SECOND * 4).await;
    assert_eq!(there(&pool), list([1, 2]));
    sleep(SECOND * 2).await;
    assert_eq!(there(&pool), list([2]));
    endless.complete(Outcome::Success, now());
}

#[tokio::test(start_paused = true)]
async fn who_is_back_before_it_was_gone_has_never_been_away() {
    let (prompter, script) = script();
    let pool = pool();
    tokio::spawn(Discoverer::new(&pool, script).run());
    prompter.send(set([1, 2])).unwrap();
    sleep(MS).await;
    let one = pool.get("1").unwrap();
    let busy = Lease::take(Arc::clone(&one), now());
    pool.disable("1");
    prompter.send(set([2])).unwrap();
    sleep(SECOND).await;
    prompter.send(set([1, 2])).unwrap();
    sleep(MS).await;
    assert!(Arc::ptr_eq(&one, &pool.get("1").unwrap()));
    assert_eq!(one.health().state(), HealthState::Disabled, "what the operator said still holds");
    pool.enable("1");
    assert_eq!(picked_from(&pool), list([1, 2]));
    busy.complete(Outcome::Success, now());
    sleep(SECOND * 60).await;
    assert_eq!(there(&pool), list([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn what_its_source_drains_stays_and_is_not_picked() {
    let (prompter, script) = script();
    let pool = pool();
    tokio::spawn(Discoverer::new(&pool, script).run());
    prompter.send(Some(Ok(Update::set([Endpoint::from(member(1)).draining(), member(2).into()])))).unwrap();
    sleep(SECOND * 60).await;
    assert_eq!((there(&pool), picked_from(&pool)), (list([1, 2]), list([2])));
    pool.enable("1");
    assert_eq!(picked_from(&pool), list([2]), "the host cannot take back what it has not said");
    prompter.send(set([1, 2])).unwrap();
    sleep(MS).await;
    assert_eq!(picked_from(&pool), list([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_failing_source_changes_nothing_and_is_asked_again_after_longer_each_time() {
    /// Fails, and notes when it was asked.
    struct Broken(mpsc::UnboundedSender<Instant>, u32);
    impl Source<u32> for Broken {
        async fn next(&mut self) -> Said {
            self.1 += 1;
            match self.1 {
                1 => return set([1, 2]),
                9 => return set([1, 2, 3]),
                10.. => return std::future::pending().await,
                _ => {}
            }
            self.0.send(Instant::now()).unwrap();
            Some(Err("Connection refused".into()))
        }
    }
    let asked = |seed: u64| async move {
        let (note, mut noted) = mpsc::unbounded_channel();
        let pool = pool();
        let backoff = Backoff { base: SECOND, cap: SECOND * 8 };
        let discoverer = Discoverer::new(&pool, Broken(note, 0)).backoff(backoff).seed(seed);
        tokio::spawn(discoverer.run());
        sleep(SECOND * 10).await;
        let status = discoverer.status();
        assert_eq!(there(&pool), list([1, 2]));
        assert_eq!((status.members, status.failures, status.is_ready()), (2, 4, true));
        let failure = status.last_failure.unwrap();
        assert_eq!(&*failure.cause, "Connection refused");
        assert!(status.last_success.unwrap() < failure.when);
        sleep(SECOND * 60).await;
        assert_eq!((there(&pool), discoverer.status().failures), (list([1, 2, 3]), 0));
        let mut times = Vec::new();
        while let Ok(time) = noted.try_recv() {
            times.push(time);
        }
        times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect::<Vec<_>>()
    };
    let waits = asked(7).await;
    for (wait, expected) in waits.iter().zip([1, 2, 4, 8, 8, 8]) {
        assert!((expected * 800..=expected * 1_200 + 2).contains(wait), "{waits:?}");
    }
    assert_eq!(waits.len(), 6);
    assert_eq!(waits, asked(7).await, "the same seed waits the same");
    assert_ne!(waits, asked(8).await);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_looked_at_twice() {
    let (prompter, looks, script) = looking_script();
    let pool = pool();
    let discoverer = Discoverer::new(&pool, script);
    tokio::spawn(discoverer.run());
    prompter.send(set([1, 2, 3])).unwrap();
    sleep(SECOND).await;
    prompter.send(set([])).unwrap();
    sleep(SECOND * 29).await;
    let status = discoverer.status();
    assert_eq!((picked_from(&pool).len(), status.members, status.doubted), (3, 0, 3));
    assert_eq!(looks.load(Ordering::Relaxed), 0);

    // The second look fails: that confirms nothing, however long it takes.
    sleep(SECOND * 2).await;
    assert_eq!(looks.load(Ordering::Relaxed), 1);
    prompter.send(Some(Err("no route to host".into()))).unwrap();
    sleep(SECOND * 300).await;
    assert_eq!((picked_from(&pool).len(), looks.load(Ordering::Relaxed)), (3, 1));
    // The next answer does.
    prompter.send(set([])).unwrap();
    sleep(SECOND).await;
    assert_eq!((there(&pool).len(), discoverer.status().doubted), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_missing_and_found_by_the_second_look_stays() {
    let (prompter, looks, script) = looking_script();
    let pool = pool();
    let discoverer = Discoverer::new(&pool, script).guard(Guard::default().confirm_after(SECOND * 5));
    tokio::spawn(discoverer.run());
    prompter.send(set([1, 2, 3])).unwrap();
    prompter.send(set([4])).unwrap();
    sleep(SECOND * 6).await;
    assert_eq!(
        (looks.load(Ordering::Relaxed), picked_from(&pool)),
        (1, list([1, 2, 3, 4])),
        "who is new is in at once"
    );
    prompter.send(set([1, 2, 3, 4])).unwrap();
    sleep(SECOND * 60).await;
    assert_eq!((looks.load(Ordering::Relaxed), picked_from(&pool)), (1, list([1, 2, 3, 4])));
    assert_eq!(discoverer.status().doubted, 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_source_that_cannot_look_again_time_confirms_the_word() {
    let (prompter, script) = script();
    let pool = pool();
    tokio::spawn(Discoverer::new(&pool, script).run());
    prompter.send(set([1, 2, 3])).unwrap();
    sleep(SECOND).await;
    prompter.send(Some(Ok(Update::changes([1, 2, 3].map(|id| Change::Remove(id.to_string().into())))))).unwrap();
    // And it has nothing more to say.
    prompter.send(None).unwrap();
    sleep(SECOND * 29).await;
    assert_eq!(picked_from(&pool).len(), 3);
    sleep(SECOND * 2).await;
    assert_eq!(there(&pool).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_source_that_ends_before_its_second_look_the_word_holds() {
    let (prompter, _looks, script) = looking_script();
    let pool = pool();
    let discoverer = Discoverer::new(&pool, script);
    let run = tokio::spawn(discoverer.run());
    prompter.send(set([1, 2, 3])).unwrap();
    prompter.send(set([1])).unwrap();
    sleep(SECOND * 40).await;
    assert_eq!(picked_from(&pool).len(), 3, "it was asked, and has not answered");
    prompter.send(None).unwrap();
    run.await.unwrap();
    assert_eq!(there(&pool), list([1]));
}

#[tokio::test(start_paused = true)]
async fn what_the_host_put_in_itself_is_left_alone() {
    let (prompter, script) = script();
    let pool = BackendPool::from_members([member(9), member(1)]).unwrap();
    tokio::spawn(Discoverer::new(&pool, script).guard(Guard::off()).run());
    prompter.send(set([1, 2])).unwrap();
    sleep(SECOND).await;
    pool.insert(member(8)).unwrap();
    assert_eq!(there(&pool), list([9, 1, 2, 8]));
    // What it names is its own from then on.
    prompter.send(set([])).unwrap();
    sleep(SECOND).await;
    assert_eq!(there(&pool), list([9, 8]));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_says_the_same_again_tells_nobody_anything() {
    let (prompter, script) = script();
    let pool = pool();
    tokio::spawn(Discoverer::new(&pool, script).run());
    prompter.send(set([2, 1])).unwrap();
    sleep(MS).await;
    let mut changes = pool.watch();
    prompter.send(set([1, 2])).unwrap();
    prompter.send(set([2, 1])).unwrap();
    sleep(SECOND).await;
    prompter.send(set([3, 2, 1])).unwrap();
    assert_eq!(changes.next().await, Some(PoolChange::Added("3".into())));
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_stopped_dropped_and_begun_again() {
    let (prompter, script) = script();
    let pool = pool();
    let discoverer = Discoverer::new(&pool, script).guard(Guard::off());
    discoverer.stop();
    let first = tokio::spawn(discoverer.run());
    prompter.send(set([1, 2, 3])).unwrap();
    discoverer.ready().await;
    // A second one ends at once.
    discoverer.run().await;
    assert!(!first.is_finished());

    // One that is leaving when the run is dropped is removed, and nobody else.
    let busy = Lease::take(pool.get("1").unwrap(), now());
    prompter.send(set([2, 3])).unwrap();
    sleep(SECOND).await;
    assert_eq!(there(&pool), list([1, 2, 3]));
    first.abort();
    _ = first.await;
    assert_eq!(there(&pool), list([2, 3]));
    busy.complete(Outcome::Success, now());

    // The next run knows whom the last one brought.
    let second = tokio::spawn(discoverer.run());
    prompter.send(set([3])).unwrap();
    sleep(SECOND).await;
    assert_eq!(there(&pool), list([3]));
    discoverer.stop();
    second.await.unwrap();
    assert_eq!(there(&pool), list([3]));
}

/// Many sources that say anything at any time, in all orders.
#[tokio::test(start_paused = true)]
async fn whatever_is_said_who_is_listed_is_there_and_in_the_end_nobody_else() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let (prompter, _looks, mut script) = looking_script();
        script.looks = script.looks.filter(|_| seed % 2 == 0);
        let pool = pool();
        pool.insert(member(99)).unwrap();
        let backoff = Backoff { base: MS * 10, cap: MS * 10 };
        let discoverer = Discoverer::new(&pool, script).backoff(backoff).seed(seed).drain(SECOND * 5);
        let run = tokio::spawn(discoverer.run());
        let (mut listed, mut known) = (BTreeMap::<u32, bool>::new(), BTreeMap::new());
        for _ in 0..60 {
            let mut changes = Vec::new();
            for _ in 0..rng.below(4) {
                let (target, draining) = (rng.below(9) as u32, rng.below(4) == 0);
                if rng.below(2) == 0 {
                    listed.insert(target, draining);
                    changes.push(Change::Insert(endpoint(target, draining)));
                } else {
                    listed.remove(&target);
                    changes.push(Change::Remove(target.to_string().into()));
                }
            }
            let all = listed.iter().map(|(target, draining)| endpoint(*target, *draining));
            let said = match rng.below(3) {
                0 => Some(Ok(Update::changes(changes))),
                _ => Some(Ok(Update::set(all.collect::<Vec<_>>()))),
            };
            if rng.below(5) == 0 {
                prompter.send(Some(Err("it stumbles".into()))).unwrap();
            }
            prompter.send(said).unwrap();
            sleep(MS * 50 + SECOND * rng.below(20) as u32).await;

            let there = pool.backends();
            assert!(ids(&there).contains(&"99".to_owned()));
            for (target, draining) in &listed {
                let backend = pool.get(&target.to_string()).expect("who is listed is there");
                assert_eq!(backend.is_eligible(), !draining, "seed {seed}: {target}");
                // Who has been there all the time is the same.
                let before = known.insert(*target, Arc::clone(&backend));
                assert!(before.is_none_or(|before| Arc::ptr_eq(&before, &backend)), "seed {seed}: {target}");
            }
            known.retain(|target, _| ids(&there).contains(&target.to_string()));
        }
        for _ in 0..2 {
            sleep(SECOND * 40).await;
            let all = listed.iter().map(|(target, draining)| endpoint(*target, *draining));
            prompter.send(Some(Ok(Update::set(all.collect::<Vec<_>>())))).unwrap();
        }
        sleep(SECOND * 40).await;
        let mut expected: Vec<_> = listed.keys().copied().chain([99]).collect();
        expected.sort_unstable();
        let mut found: Vec<u32> = there(&pool).iter().map(|id| id.parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "seed {seed}");
        run.abort();
    }
}

fn endpoint(target: u32, is_draining: bool) -> Endpoint<u32> {
    let endpoint = Endpoint::from(member(target));
    if is_draining { endpoint.draining() } else { endpoint }
}

#[tokio::test(start_paused = true)]
async fn what_was_skipped_and_the_version_are_in_the_status() {
    let (prompter, script) = script();
    let pool = pool();
    let discoverer = Discoverer::new(&pool, script);
    assert!(!discoverer.status().is_ready());
    tokio::spawn(discoverer.run());
    let update = Update::set([member(1), member(1)]).version("17").skipped(["line 3: no URL".to_owned()]);
    prompter.send(Some(Ok(update))).unwrap();
    discoverer.ready().await;
    let status = discoverer.status();
    assert_eq!((&*status.source, status.version.as_deref(), status.members), ("script", Some("17"), 1));
    assert_eq!(*status.skipped, ["line 3: no URL".to_owned(), "1: listed more than once".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn a_tower_discover_is_a_source() {
    type TowerChange = tower::discover::Change<u8, u32>;
    let (say, said) = mpsc::unbounded_channel::<Result<TowerChange, BoxError>>();
    let stream = futures_util::stream::unfold(said, async |mut said| Some((said.recv().await?, said)));
    let pool = pool();
    let discoverer = Discoverer::new(&pool, TowerSource::new(stream));
    let run = tokio::spawn(discoverer.run());
    use tower::discover::Change::{Insert, Remove};
    for change in [Insert(1, 10), Insert(2, 20), Insert(3, 30), Remove(2)] {
        say.send(Ok(change)).unwrap();
    }
    say.send(Err("it stumbles".into())).unwrap();
    discoverer.ready().await;
    assert_eq!(there(&pool), list([1, 3]));
    sleep(MS).await;
    assert_eq!(&*discoverer.status().last_failure.unwrap().cause, "it stumbles");

    say.send(Ok(Insert(1, 11))).unwrap();
    say.send(Ok(Remove(3))).unwrap();
    sleep(SECOND * 2).await;
    let targets: BTreeMap<_, _> =
        pool.members().iter().map(|(backend, target)| (backend.id().to_string(), *target)).collect();
    assert_eq!(targets, [("1".to_owned(), 11)].into());

    // At the end of the stream the members stay, and the run ends.
    drop(say);
    run.await.unwrap();
    assert_eq!((there(&pool), discoverer.status().has_ended), (list([1]), true));
}

#[tokio::test(start_paused = true)]
async fn what_a_source_said_before_it_failed_is_not_confirmed_by_its_failing() {
    let (prompter, script) = script();
    let pool = pool();
    let backoff = Backoff { base: SECOND, cap: SECOND };
    tokio::spawn(Discoverer::new(&pool, script).backoff(backoff).run());
    prompter.send(set(0..4)).unwrap();
    sleep(MS).await;
    // It has lost what it knew, and is restarted for that.
    prompter.send(set([])).unwrap();
    sleep(MS).await;
    for _ in 0..60 {
        prompter.send(Some(Err("no answer".into()))).unwrap();
        sleep(SECOND).await;
    }
    assert_eq!(there(&pool), list(0..4));
    prompter.send(set([])).unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(there(&pool), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_is_there_to_begin_with_is_there_until_the_source_has_spoken() {
    let (prompter, script) = script();
    let pool = pool();
    let discoverer = Discoverer::new(&pool, script).starting_with([1, 2, 3].map(member)).drain(MS * 100);
    tokio::spawn(discoverer.run());
    prompter.send(Some(Err("not yet".into()))).unwrap();
    sleep(SECOND).await;
    assert_eq!(there(&pool), list([1, 2, 3]));
    let status = discoverer.status();
    assert!(!status.is_ready() && status.failing_since.is_some());

    // Whom its first answer does not have leaves like anybody else; two of three are too many at once.
    prompter.send(set([2, 4])).unwrap();
    sleep(SECOND * 3).await;
    assert_eq!((there(&pool), discoverer.status().doubted), (list([1, 2, 3, 4]), 2));
    assert!(discoverer.status().failing_since.is_none());
    prompter.send(set([2, 4])).unwrap();
    sleep(SECOND * 31).await;
    assert_eq!(there(&pool), list([2, 4]));
}

#[tokio::test(start_paused = true)]
async fn another_source_goes_on_where_the_one_before_it_left_off() {
    let pool = pool();
    let host = Member::new("host", 0);
    pool.insert(host).unwrap();
    let (first, script) = script();
    let before = Discoverer::new(&pool, script);
    let run = tokio::spawn(before.run());
    first.send(set([1, 2, 3, 4])).unwrap();
    sleep(MS).await;
    let three = pool.get("3").unwrap();

    let (second, script) = self::script();
    let after = Discoverer::new(&pool, script).after(&before).starting_with([member(9)]);
    tokio::spawn(after.run());
    second.send(set([3, 4, 5])).unwrap();
    sleep(SECOND).await;
    // It waits for the one before it.
    assert_eq!(there(&pool), list(["host", "1", "2", "3", "4"]));
    run.abort();
    sleep(SECOND).await;
    assert_eq!(there(&pool), list(["host", "3", "4", "5"]));
    assert!(Arc::ptr_eq(&three, &pool.get("3").unwrap()));
}
