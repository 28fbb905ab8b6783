//! What a second thread adds: requests through one balancer from one thread and from two, around a service that does nothing.
//!
//! ```text
//! cargo bench --bench contended
//! ```
//!
//! All threads share the pool and the strategy, as workers of a server do. One and two are measured in turn, round by round:
//! the ratio is what counts. 2.00 is all that a second thread could add.

use std::{
    future::{Ready, ready},
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};
use tower::{BoxError, Layer, Service, service_fn};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer,
    pool::{Member, Routed},
    strategy::AnyStrategy,
};

const ROUNDS: usize = 9;
const REQUESTS: u32 = 400_000;
const STRATEGIES: [&str; 5] = ["round_robin", "random", "least_request", "peak_ewma", "least_latency"];

fn main() {
    println!("millions of requests a second by one thread, and how many times that by two: median of {ROUNDS} rounds");
    for backends in [3, 100, 10_000] {
        println!("{backends} backends");
        for name in STRATEGIES {
            let strategy: AnyStrategy = name.parse().unwrap();
            let members = (0..backends).map(|number| Member::new(number.to_string(), number));
            let pool = BackendPool::from_members(members).unwrap();
            let end =
                service_fn(|routed: Routed<u32, u32>| -> Ready<Result<u32, BoxError>> { ready(Ok(routed.target)) });
            let service = BalancerLayer::new(&pool, strategy).layer(FeedbackLayer::default().layer(end));
            let mut rounds: Vec<_> = (0..ROUNDS).map(|_| (rate(&service, 1), rate(&service, 2))).collect();
            rounds.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
            let ratio = |round: usize| rounds[round].1 / rounds[round].0;
            let (least, median, most) = (ratio(0), ratio(ROUNDS / 2), ratio(ROUNDS - 1));
            println!("  {name:<16} {:6.2} {median:6.2} ({least:.2} to {most:.2})", rounds[ROUNDS / 2].0 / 1e6);
        }
    }
}

/// Requests a second, of so many threads together.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn rate<S>(service: &S, threads: usize) -> f64
where
    S: Service<u32, Response = u32> + Clone + Send + Sync,
    S::Error: std::fmt::Debug,
{
    let start = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let _inside = runtime.enter();
                start.wait();
                for _ in 0..REQUESTS {
                    std::hint::black_box(answer(&mut service.clone()));
                }
                start.wait();
            });
        }
        start.wait();
        let started = Instant::now();
        start.wait();
        threads as f64 * f64::from(REQUESTS) / started.elapsed().as_secs_f64()
    })
}

fn answer<S>(service: &mut S) -> u32
where
    S: Service<u32, Response = u32>,
    S::Error: std::fmt::Debug,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(1)).poll(&mut context) {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => unreachable!("the inner service is always ready"),
    }
}
