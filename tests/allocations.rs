//! The balancing path allocates nothing: clone, readiness, pick, lease, answer, completion.

use allocation_counter::measure;
use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};
use tower::{BoxError, Layer, Service, service_fn};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer,
    pool::{Member, Routed},
    strategy::{
        AnyStrategy, Aperture, Grouped, Hint, LeastLatency, Prequal, Random, RoundRobin, SessionSecret, ShuffleShard,
        SlowStart, Sticky, Strategy, Tiers, Zones,
    },
};

fn pool() -> BackendPool<u32> {
    BackendPool::from_members((0..100).map(|number| Member::new(number.to_string(), number))).unwrap()
}

/// Allocations of 1000 requests through a clone each, as axum and hyper do it.
fn allocations(strategy: impl Strategy) -> u64 {
    let end = service_fn(|routed: Routed<u32, u32>| -> Ready<Result<u32, BoxError>> { ready(Ok(routed.target)) });
    let pool = pool();
    pool.mark_unhealthy("7");
    let service = BalancerLayer::new(&pool, strategy).layer(FeedbackLayer::default().layer(end));
    let mut context = Context::from_waker(Waker::noop());
    let mut ask = |request| {
        let mut service = service.clone();
        assert!(matches!(service.poll_ready(&mut context), Poll::Ready(Ok(()))));
        let Poll::Ready(Ok(target)) = pin!(service.call(request)).poll(&mut context) else { panic!("no answer") };
        assert_ne!(target, 7);
    };
    // What is made once for each thread is made now.
    ask(0);
    measure(|| (0..1_000).for_each(&mut ask)).count_total
}

#[test]
fn a_request_through_the_balancer_allocates_nothing() {
    assert_eq!(allocations(RoundRobin::new()), 0, "round_robin");
    assert_eq!(allocations(Random), 0, "random");
    for name in AnyStrategy::NAMES {
        assert_eq!(allocations(name.parse::<AnyStrategy>().unwrap()), 0, "{name}, by name");
    }
}

#[test]
fn nor_do_the_stages_and_those_that_want_to_know_more() {
    assert_eq!(allocations(Prequal::new()), 0, "prequal, with probes");
    assert_eq!(allocations(Grouped::new(Tiers, || Grouped::new(Zones::new("a"), LeastLatency::new))), 0, "groups");
    assert_eq!(allocations(Aperture::new(0, 4, RoundRobin::new)), 0, "aperture");
    assert_eq!(allocations(ShuffleShard::new(4, SlowStart::new(LeastLatency::new()))), 0, "shard, slow start");
    assert_eq!(allocations(Sticky::new(SessionSecret::new([7; 16]), RoundRobin::new())), 0, "sticky");
}

#[test]
fn a_request_that_nobody_has_room_for_copies_no_list() {
    let pool = pool();
    (0..100).for_each(|id| assert!(pool.set_limit(&id.to_string(), Some(1))));
    let view = pool.view(RoundRobin::new());
    let (snapshot, hint) = (view.load(), Hint::new(tokio::time::Instant::now().into_std(), 0));
    let held: Vec<_> = (0..100).map(|_| snapshot.lease(&hint).unwrap().0).collect();
    // Who has room, and who has where those count that are silent: twice two words.
    assert_eq!(measure(|| (0..1_000).for_each(|_| assert!(snapshot.lease(&hint).is_err()))).count_total, 2_000);
    drop(held);
}

/// What is held at most while a POST of 10 MiB passes through the retry, in parts of 64 KiB that come one by one.
#[cfg(feature = "http")]
#[test]
fn a_long_body_passes_through_the_retry_and_is_not_kept() {
    use bytes::Bytes;
    use http_body::{Body, Frame};
    use http_body_util::{BodyExt, StreamBody};
    use tower_balancer::http::{ReplayBody, RetryLayer};

    const PART: usize = 64 * 1024;
    fn long() -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let parts = (0..160).map(|_| Ok(Frame::data(Bytes::from(vec![0; PART]))));
        StreamBody::new(futures_util::stream::iter(parts))
    }
    async fn read<B: Body<Data = Bytes, Error = BoxError> + Unpin>(
        request: http::Request<B>,
    ) -> Result<http::Response<usize>, BoxError> {
        let (mut body, mut bytes) = (request.into_body(), 0);
        while let Some(frame) = body.frame().await {
            bytes += frame?.into_data().map_or(0, |data| data.len());
        }
        Ok(http::Response::new(bytes))
    }
    fn passes<B: Body<Data = Bytes, Error = std::convert::Infallible> + Unpin>(body: B) {
        let mut service = RetryLayer::default().layer(service_fn(read::<ReplayBody<B>>));
        let mut context = Context::from_waker(Waker::noop());
        let answer = pin!(service.call(http::Request::post("http://service/").body(body).unwrap()));
        let Poll::Ready(Ok(answer)) = answer.poll(&mut context) else { panic!("no answer") };
        assert_eq!(answer.into_body(), 160 * PART);
    }
    passes(long());
    let held = measure(|| passes(long())).bytes_max as usize;
    assert!(held < 4 * PART, "{held}");
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}
