//! What a request costs in the balancer, beside `tower::balance::p2c`, around a service that does nothing.
//!
//! ```text
//! cargo bench --bench service
//! ```
//!
//! All columns are measured in turn, round by round, in one run: compare within a row, not between runs. A request is
//! clone (where the service can be cloned), readiness, call, answer, completion.

use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};
use tower::{
    BoxError, Layer, Service,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwmaDiscover},
    service_fn,
};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer,
    pool::{Member, Routed},
    strategy::{AnyStrategy, LeastLatency, LeastRequest, PeakEwma, Random, RoundRobin, Strategy},
};

const ROUNDS: usize = 15;
const REQUESTS: u32 = 50_000;

/// Nanoseconds a request, of one batch.
type Batch = Box<dyn FnMut() -> f64>;

fn ours(backends: u32, strategy: impl Strategy) -> Batch {
    let members = (0..backends).map(|number| Member::new(number.to_string(), number));
    let pool = BackendPool::from_members(members).unwrap();
    let end = service_fn(|routed: Routed<u32, u32>| -> Ready<Result<u32, BoxError>> { ready(Ok(routed.target)) });
    let service = BalancerLayer::new(&pool, strategy).layer(FeedbackLayer::default().layer(end));
    Box::new(move || timed(|| answer(&mut service.clone())))
}

fn towers(backends: u32) -> Batch {
    use std::time::Duration;
    let end = |number| service_fn(move |_: u32| -> Ready<Result<u32, BoxError>> { ready(Ok(number)) });
    let list = ServiceList::new::<u32>((0..backends).map(end));
    let ewma =
        PeakEwmaDiscover::new(list, Duration::from_millis(30), Duration::from_secs(10), CompleteOnResponse::default());
    let mut service = Balance::new(ewma);
    Box::new(move || timed(|| answer(&mut service)))
}

fn answer<S>(service: &mut S) -> u32
where
    S: Service<u32, Response = u32>,
    S::Error: std::fmt::Debug,
{
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match service.poll_ready(&mut context) {
            Poll::Ready(ready) => break ready.unwrap(),
            Poll::Pending => {}
        }
    }
    match pin!(service.call(1)).poll(&mut context) {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => unreachable!("the inner service is always ready"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn timed(mut request: impl FnMut() -> u32) -> f64 {
    let start = Instant::now();
    for _ in 0..REQUESTS {
        std::hint::black_box(request());
    }
    start.elapsed().as_nanos() as f64 / f64::from(REQUESTS)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    println!("nanoseconds a request: median (least to most) of {ROUNDS} rounds of {REQUESTS}");
    for backends in [3, 100, 10_000] {
        println!("{backends} backends");
        let by_name: AnyStrategy = "round_robin".parse().unwrap();
        let mut columns: Vec<(&str, Batch, Vec<f64>)> = vec![
            ("round_robin", ours(backends, RoundRobin::new()), Vec::new()),
            ("round_robin, by name", ours(backends, by_name), Vec::new()),
            ("random", ours(backends, Random), Vec::new()),
            ("least_request", ours(backends, LeastRequest::new()), Vec::new()),
            ("peak_ewma", ours(backends, PeakEwma), Vec::new()),
            ("least_latency", ours(backends, LeastLatency::new()), Vec::new()),
            ("tower p2c, peak ewma, no clone", towers(backends), Vec::new()),
        ];
        for _ in 0..ROUNDS {
            for (_, batch, times) in &mut columns {
                times.push(batch());
            }
        }
        for (name, _, times) in &mut columns {
            times.sort_by(f64::total_cmp);
            println!("  {name:<32} {:7.1} ({:.1} to {:.1})", times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
        }
    }
}
