//! cargo run --example custom_strategy
//!
//! A strategy of your own: to the backend with the fewest requests in flight, by lot where several have as few. First
//! as the pure function that it is, without pool, requests or runtime; then at work, beside two that come with the
//! crate and are chosen by name. One of the three targets is slow, and the new strategy is the one that notices.

use futures_util::{StreamExt, TryStreamExt, stream};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_balancer::{
    BackendPool, BalancerLayer, BoxError, FeedbackLayer,
    backend::{Backend, Lease, Moment, Outcome},
    balance::Direct,
    pool::Member,
    strategy::{AnyStrategy, Candidates, Eligible, Hint, Index, Picker, Strategy, conformance},
};

/// To the backend with the fewest requests in flight, by lot where several have as few.
#[derive(Clone, Copy, Debug)]
struct LeastInFlight;

impl Strategy for LeastInFlight {
    type Picker = Self;

    /// Called when the membership changes: the place to build tables. This strategy needs none.
    fn build(&self, _members: &[Arc<Backend>]) -> Self {
        *self
    }
}

impl Picker for LeastInFlight {
    /// Called for each request. Chance comes in with the hint, so the same hint gives the same pick.
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let (mut rng, now) = (hint.rng(), Moment::of(hint.now));
        // One that fails at once has little in flight, and would draw the requests that it fails.
        let fails = |backend: &Backend| {
            backend.load().latency().faults(now).is_some_and(|faults| faults.value > 0.5 && faults.idle < 10.0)
        };
        let cost = |backend: &Backend| (fails(backend), backend.load().in_flight());
        let least = candidates.iter().min_by_key(|(_, backend)| (cost(backend), rng.next_u64()));
        least.map(|(index, _)| index)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    pure();

    conformance::check(|| LeastInFlight, Instant::now().into_std());
    println!("It does what every strategy must do.");

    println!("At work, 120 requests, 8 at a time:");
    at_work("round_robin".parse::<AnyStrategy>()?).await?;
    at_work("random".parse::<AnyStrategy>()?).await?;
    let [quick, slow, brisk] = at_work(AnyStrategy::new("least_in_flight", LeastInFlight)).await?;
    assert!(slow < quick && slow < brisk);
    Ok(())
}

/// A thousand decisions about three backends, of which the first is busy.
fn pure() {
    let backends = ["a", "b", "c"].map(|name| Arc::new(Backend::new(name)));
    let now = Instant::now().into_std();
    let _busy = Lease::take(Arc::clone(&backends[0]), now);
    let picker = LeastInFlight.build(&backends);

    println!("As a function, 1000 picks while a is busy:");
    for (case, eligible) in [("all are well", [true, true, true]), ("b is out", [true, false, true])] {
        let eligible = Eligible::new(eligible);
        let mut picks = [0; 3];
        for seed in 0..1000 {
            let picked = picker.pick(&Candidates::new(&backends, &eligible), &Hint::new(now, seed));
            picked.into_iter().for_each(|index| picks[index.get()] += 1);
        }
        let [a, b, c] = picks;
        println!("  {case}: a {a}, b {b}, c {c}");
        assert!(a == 0 && b + c == 1000 && (b > 0) == eligible.contains(Index::new(1)));
    }
}

/// A target that takes its time to double a number.
fn doubles(time: Duration) -> BoxCloneSyncService<u32, u32, BoxError> {
    BoxCloneSyncService::new(service_fn(move |number: u32| async move {
        sleep(time).await;
        Ok(number * 2)
    }))
}

/// Sends 120 requests, 8 at a time, to three targets of which the second is slow. Returns how many each answered.
async fn at_work(strategy: AnyStrategy) -> Result<[u64; 3], BoxError> {
    let pool = BackendPool::from_members([
        Member::new("quick", doubles(Duration::from_millis(2))),
        Member::new("slow", doubles(Duration::from_millis(100))),
        Member::new("brisk", doubles(Duration::from_millis(2))),
    ])?;
    let name = strategy.name().to_owned();
    let service = ServiceBuilder::new()
        .layer(BalancerLayer::new(&pool, strategy))
        .layer(FeedbackLayer::default())
        .service(Direct);

    let started = Instant::now();
    let requests = stream::iter(0..120).map(|number| service.clone().oneshot(number));
    let doubled: Vec<u32> = requests.buffer_unordered(8).try_collect().await?;
    let time = started.elapsed();
    assert_eq!(doubled.len(), 120);

    let mut answered = [0; 3];
    for (answered, backend) in answered.iter_mut().zip(pool.backends()) {
        *answered = backend.load().count(Outcome::Success);
    }
    let [quick, slow, brisk] = answered;
    println!("  {name:<15}  quick {quick:>2}, slow {slow:>2}, brisk {brisk:>2}, in {time:.0?}");
    Ok(answered)
}
