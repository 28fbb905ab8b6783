//! The time of a whole request, of its attempts, and of a silence in the middle of an answer: in paused time, and once
//! over sockets.

mod common;

use bytes::Bytes;
use common::{Server, answers_with, send, until};
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer, ReverseProxy,
    backend::{Backend, Origin, Outcome},
    http::{
        AddressLayer, BodyTimeoutLayer, DeadlineLayer, ReplayBody, RespondLayer, ResponseTimeoutLayer, RetryBudget,
        RetryLayer, Silent, Stalled, TimedBody, TriedBackends,
        deadline::{AttemptsLeft, DeadlineExceeded, RequestDeadline, ShareExceeded},
    },
    strategy::RoundRobin,
};

const MINUTE: Duration = Duration::from_secs(60);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn request(headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::get("http://any/");
    for &(name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Empty::new()).unwrap()
}

fn free_of_charge() -> RetryLayer {
    RetryLayer::new(RetryBudget::new(10.0, 1_000)).backoff(Duration::ZERO, Duration::ZERO)
}

// ---- the whole request

async fn never<B>(_: Request<B>) -> Result<Response<()>, BoxError> {
    pending().await
}

/// After how long a request that nobody answers is given up, and what the error says.
async fn given_up(layer: DeadlineLayer, request: Request<Empty<Bytes>>) -> (Duration, Duration) {
    let start = Instant::now();
    let error = layer.layer(service_fn(never)).oneshot(request).await.unwrap_err();
    (start.elapsed(), error.downcast_ref::<DeadlineExceeded>().unwrap().time())
}

#[tokio::test(start_paused = true)]
async fn a_request_has_the_time_of_the_layer_and_may_shorten_it() {
    let ten = DeadlineLayer::new(Duration::from_secs(10));
    for (layer, headers, time) in [
        (ten, &[][..], 10_000),
        (ten, &[("x-request-timeout-ms", "250")], 250),
        (ten, &[("x-request-timeout-ms", "60000")], 10_000),
        (ten, &[("x-request-timeout-ms", "18446744073709551615")], 10_000),
        (ten, &[("grpc-timeout", "300m")], 300),
        (ten, &[("grpc-timeout", "99999999H")], 10_000),
        (ten, &[("grpc-timeout", "300m"), ("x-request-timeout-ms", "250")], 250),
        (ten, &[("grpc-timeout", "soon"), ("x-request-timeout-ms", "-1")], 10_000),
        (DeadlineLayer::none(), &[("x-request-timeout-ms", "250")], 250),
    ] {
        assert_eq!(given_up(layer, request(headers)).await, (millis(time), millis(time)), "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_grpc_is_told_so_in_its_own_way() {
    let never = |_: Request<Empty<Bytes>>| pending::<Result<Response<Empty<Bytes>>, BoxError>>();
    let stack = ServiceBuilder::new().layer(RespondLayer::new()).layer(DeadlineLayer::none()).service_fn(never);
    for (kind, status, grpc) in [("application/grpc+proto", 200, Some("4")), ("application/json", 504, None)] {
        let call = Request::post("http://any/").header("content-type", kind).header("grpc-timeout", "100m");
        let answer = stack.oneshot(call.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{kind}");
        assert_eq!(answer.headers().get("grpc-status").map(|status| status.to_str().unwrap()), grpc, "{kind}");
        // A head alone: behind it there is nothing, not even trailers.
        assert_eq!(answer.body().is_end_stream(), grpc.is_some(), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_may_say_it_of_one_request() {
    let mut request = request(&[("x-request-timeout-ms", "250")]);
    request.extensions_mut().insert(RequestDeadline((Instant::now() + millis(100)).into_std()));
    assert_eq!(given_up(DeadlineLayer::none(), request).await, (millis(100), millis(100)));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_says_anything_it_takes_as_long_as_it_takes() {
    let slow = service_fn(async |request: Request<Empty<Bytes>>| {
        sleep(60 * MINUTE).await;
        Ok::<_, BoxError>(request.extensions().get::<RequestDeadline>().copied())
    });
    assert_eq!(DeadlineLayer::none().layer(slow).oneshot(request(&[("grpc-timeout", "soon")])).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_with_the_end_of_the_time_is_not_late() {
    let just = service_fn(async |_: Request<Empty<Bytes>>| {
        sleep(millis(100)).await;
        Ok::<_, BoxError>(())
    });
    assert!(DeadlineLayer::new(millis(100)).layer(just).oneshot(request(&[])).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_any_time_is_not_passed_on() {
    let nobody = service_fn(|_: Request<Empty<Bytes>>| -> std::future::Pending<Result<(), BoxError>> {
        panic!("it was passed on")
    });
    for header in [("grpc-timeout", "0n"), ("x-request-timeout-ms", "0")] {
        let result = DeadlineLayer::none().layer(nobody).oneshot(request(&[header])).await;
        assert!(result.unwrap_err().is::<DeadlineExceeded>());
    }
}

// ---- its attempts

/// When an attempt was made, what it carried, and when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    at: Duration,
    grpc: Option<String>,
    millis: Option<String>,
    ended: Option<Duration>,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// Writes down when an attempt is dropped.
struct Attempt(Log, usize, Instant);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.lock().unwrap()[self.1].ended = Some(self.2.elapsed());
    }
}

struct Hanging {
    pool: BackendPool<Origin>,
    seen: Log,
    start: Instant,
}

impl Hanging {
    /// Two backends that never answer.
    fn new() -> Self {
        let pool = BackendPool::new(["http://a", "http://b"]).unwrap();
        Self { pool, seen: Log::default(), start: Instant::now() }
    }

    /// The status of the answer to a request through the standard stack, and after how long it came.
    async fn ask(&self, response_timeout: Duration, request: Request<Empty<Bytes>>) -> (u16, Duration) {
        let (seen, start) = (Arc::clone(&self.seen), self.start);
        let backend = service_fn(move |request: Request<TimedBody<ReplayBody<Empty<Bytes>>>>| {
            let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let (grpc, millis) = (header("grpc-timeout"), header("x-request-timeout-ms"));
            let mut log = seen.lock().unwrap();
            log.push(Seen { at: start.elapsed(), grpc, millis, ended: None });
            let attempt = Attempt(Arc::clone(&seen), log.len() - 1, start);
            async move {
                let _attempt = attempt;
                pending::<Result<Response<Empty<Bytes>>, BoxError>>().await
            }
        });
        let stack = ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(DeadlineLayer::none())
            .layer(free_of_charge())
            .layer(BalancerLayer::new(&self.pool, RoundRobin::new()).describe_by(TriedBackends))
            .layer(FeedbackLayer::http())
            .layer(AddressLayer::new())
            .layer(ResponseTimeoutLayer::new(response_timeout))
            .service(backend);
        let response = stack.oneshot(request).await.unwrap();
        (response.status().as_u16(), start.elapsed())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.pool.backends().iter().map(|backend| backend.load().count(outcome)).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn two_attempts_share_the_time_and_no_backend_is_to_blame() {
    let hanging = Hanging::new();
    let asked = request(&[("x-request-timeout-ms", "100")]);
    assert_eq!(hanging.ask(MINUTE, asked).await, (504, millis(100)));

    let spans: Vec<_> = hanging.seen().iter().map(|seen| (seen.at, seen.ended.unwrap())).collect();
    assert_eq!(spans, [(millis(0), millis(50)), (millis(50), millis(100))]);
    // One ran out of its share, the other out of the request's time, on another backend.
    for backend in hanging.pool.backends() {
        let load = backend.load();
        assert_eq!((load.completed(), load.in_flight()), (1, 0));
        assert!(backend.is_eligible());
    }
    assert_eq!((hanging.count(Outcome::Lost), hanging.count(Outcome::Cancelled)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_had_its_share_is_not_asked_again() {
    let hanging = Hanging::new();
    hanging.pool.mark_unhealthy("http://b");
    assert_eq!(hanging.ask(MINUTE, request(&[("x-request-timeout-ms", "100")])).await, (504, millis(50)));
    assert_eq!(hanging.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_passes_on_what_is_left_then() {
    let hanging = Hanging::new();
    hanging.ask(MINUTE, request(&[("x-request-timeout-ms", "100"), ("grpc-timeout", "1S")])).await;
    let passed: Vec<_> = hanging.seen().into_iter().map(|seen| (seen.grpc.unwrap(), seen.millis.unwrap())).collect();
    assert_eq!(passed, [("100000u".into(), "100".into()), ("50000000n".into(), "50".into())]);

    // And nothing that it did not come with.
    let hanging = Hanging::new();
    hanging.ask(MINUTE, request(&[("grpc-timeout", "100m")])).await;
    let passed: Vec<_> = hanging.seen().into_iter().map(|seen| (seen.grpc.unwrap(), seen.millis)).collect();
    assert_eq!(passed, [("100000u".into(), None), ("50000000n".into(), None)]);
}

#[tokio::test(start_paused = true)]
async fn the_only_attempt_has_all_the_time() {
    let hanging = Hanging::new();
    let mut asked = request(&[("x-request-timeout-ms", "100")]);
    // What was sent is not sent again.
    *asked.method_mut() = Method::POST;
    assert_eq!(hanging.ask(MINUTE, asked).await, (504, millis(100)));
    assert_eq!(hanging.seen().iter().map(|seen| seen.ended.unwrap()).collect::<Vec<_>>(), [millis(100)]);
    assert_eq!(hanging.count(Outcome::Cancelled), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_silent_for_the_timeout_is_to_blame_however_much_time_there_is() {
    let hanging = Hanging::new();
    assert_eq!(hanging.ask(millis(20), request(&[("x-request-timeout-ms", "100")])).await, (504, millis(40)));
    assert_eq!(hanging.count(Outcome::Timeout), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_the_less_of_the_timeout_and_its_share() {
    for (timeout, left, attempts, after) in
        [(40, 100, 2, 40), (60, 100, 2, 50), (60, 100, 4, 25), (60, 100, 1, 60), (60, 100, 0, 60)]
    {
        let mut asked = request(&[]);
        asked.extensions_mut().insert(RequestDeadline((Instant::now() + millis(left)).into_std()));
        asked.extensions_mut().insert(AttemptsLeft(attempts));
        let start = Instant::now();
        let error =
            ResponseTimeoutLayer::new(millis(timeout)).layer(service_fn(never)).oneshot(asked).await.unwrap_err();
        assert_eq!(start.elapsed(), millis(after), "{timeout} {left} {attempts}");
        let share = error.downcast_ref::<ShareExceeded>().map(ShareExceeded::share);
        assert_eq!((share, error.is::<Silent>()), ((after < timeout).then_some(millis(after)), after == timeout));
    }
}

// ---- the answer's body

/// Frames as they are sent through the channel.
fn body(frames: mpsc::Receiver<&'static str>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    StreamBody::new(Box::pin(futures_util::stream::unfold(frames, |mut frames| async {
        frames.recv().await.map(|frame| (Ok(Frame::data(Bytes::from_static(frame.as_bytes()))), frames))
    })))
}

/// A request with `sends` as its body to a backend that reads all of it and meanwhile answers what comes through the
/// channel; up to `timeout` of silence.
async fn answer<B>(
    timeout: impl Into<Option<Duration>>,
    sends: B,
) -> (mpsc::Sender<&'static str>, impl Body<Data = Bytes, Error = BoxError>, Arc<Backend>)
where
    B: Body<Data: Send, Error: Send> + Send + Unpin + 'static,
{
    let (frames, receive) = mpsc::channel(1);
    let receive = Arc::new(Mutex::new(Some(receive)));
    let backend = service_fn(move |request: Request<TimedBody<B>>| {
        tokio::spawn(request.into_body().collect());
        let receive = receive.lock().unwrap().take().unwrap();
        async { Ok::<_, BoxError>(Response::new(body(receive))) }
    });
    let pool = BackendPool::new(["http://a"]).unwrap();
    let response = ServiceBuilder::new()
        .layer(BalancerLayer::new(&pool, RoundRobin::new()))
        .layer(FeedbackLayer::http())
        .layer(AddressLayer::new())
        .layer(ResponseTimeoutLayer::new(MINUTE))
        .layer(timeout.into().map_or(BodyTimeoutLayer::none(), BodyTimeoutLayer::new))
        .service(backend)
        .oneshot(Request::new(sends))
        .await
        .unwrap();
    (frames, response.into_body(), pool.backends().remove(0))
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stands_still_is_broken_off_and_the_backend_is_to_blame() {
    let (frames, body, backend) = answer(MINUTE, Empty::<Bytes>::new()).await;
    let mut body = std::pin::pin!(body);
    frames.send("one").await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(backend.load().in_flight(), 1);

    let start = Instant::now();
    assert!(body.frame().await.unwrap().unwrap_err().is::<Stalled>());
    assert_eq!(start.elapsed(), MINUTE);
    assert_eq!((backend.load().in_flight(), backend.load().count(Outcome::Timeout)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_on_slowly_is_not() {
    let (frames, body, backend) = answer(MINUTE, Empty::<Bytes>::new()).await;
    tokio::spawn(async move {
        for _ in 0..5 {
            sleep(MINUTE - millis(1)).await;
            frames.send("one").await.unwrap();
        }
    });
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 15);
    assert_eq!(backend.load().count(Outcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_does_not_break_it() {
    let (frames, body, backend) = answer(MINUTE, Empty::<Bytes>::new()).await;
    let mut body = std::pin::pin!(body);
    for _ in 0..3 {
        // It waits for a while, and goes away for long while there is something to read.
        assert!(tokio::time::timeout(MINUTE / 2, body.frame()).await.is_err());
        frames.send("one").await.unwrap();
        sleep(10 * MINUTE).await;
        assert!(body.frame().await.unwrap().is_ok());
        // And while there is nothing.
        sleep(10 * MINUTE).await;
    }
    drop(frames);
    assert!(body.frame().await.is_none());
    assert_eq!(backend.load().count(Outcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_waits_for_the_client_is_not_silent() {
    let (client, sends) = mpsc::channel(1);
    let (frames, answered, backend) = answer(MINUTE, body(sends)).await;
    let mut answered = std::pin::pin!(answered);
    tokio::spawn(async move {
        sleep(10 * MINUTE).await;
        client.send("piece").await.unwrap();
        sleep(10 * MINUTE).await;
    });
    let start = Instant::now();
    assert!(answered.frame().await.unwrap().unwrap_err().is::<Stalled>());
    // The client's turn ended with the end of what it sends; the backend's did not begin before.
    assert_eq!(start.elapsed(), 21 * MINUTE);
    assert_eq!(backend.load().count(Outcome::Timeout), 1);
    drop(frames);
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_or_with_one_that_no_clock_can_show_it_may_stand_still() {
    for timeout in [None, Some(Duration::MAX)] {
        let (frames, body, _backend) = answer(timeout, Empty::<Bytes>::new()).await;
        tokio::spawn(async move {
            sleep(1_000 * MINUTE).await;
            frames.send("one").await.unwrap();
        });
        assert_eq!(body.collect().await.unwrap().to_bytes(), "one");
    }
}

// ---- all of it, over sockets

fn over_http(url: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(url);
    for &(name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Full::default()).unwrap()
}

async fn ended_as(pool: &BackendPool<Origin>, outcome: Outcome) {
    let backend = pool.backends().remove(0);
    until(|| async { backend.load().in_flight() == 0 }).await;
    assert_eq!((backend.load().count(outcome), backend.load().completed()), (1, 1), "{:?}", backend.load());
    assert!(backend.is_eligible());
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_a_504_and_nobody_is_to_blame() {
    let hangs = Server::http(answers_with(async |_| pending::<Response<Full<Bytes>>>().await)).await;
    for (deadline, headers) in [(Some(millis(50)), &[][..]), (None, &[("grpc-timeout", "50m")])] {
        let pool = BackendPool::new([hangs.url()]).unwrap();
        let builder = ReverseProxy::builder(&pool).retry(RetryLayer::none());
        let builder = match deadline {
            Some(deadline) => builder.deadline(deadline),
            None => builder,
        };
        let proxy = Server::http(builder.build()).await;
        assert_eq!(send(over_http(&proxy.url(), headers)).await, (504, "Gateway timeout".into()));
        ended_as(&pool, Outcome::Cancelled).await;
    }
}

#[tokio::test]
async fn a_backend_is_told_what_is_left() {
    let tells = Server::http(answers_with(async |request| {
        let told = request.headers().get("x-request-timeout-ms").map(|value| value.to_str().unwrap().to_owned());
        Response::new(Full::<Bytes>::from(told.unwrap_or_default()))
    }))
    .await;
    let pool = BackendPool::new([tells.url()]).unwrap();
    let proxy = Server::http(ReverseProxy::builder(&pool).deadline(MINUTE).build()).await;

    let (status, told) = send(over_http(&proxy.url(), &[("x-request-timeout-ms", "90000")])).await;
    assert!(status == 200 && (1..=60_000).contains(&told.parse().unwrap()), "{told}");
    assert_eq!(send(over_http(&proxy.url(), &[])).await, (200, String::new()));
}

#[tokio::test]
async fn an_answer_that_stands_still_breaks_off_the_clients() {
    let stalls = Server::http(answers_with(async |_| {
        let (frames, receive) = mpsc::channel(1);
        frames.send("one").await.unwrap();
        tokio::spawn(async move {
            // Open for as long as anybody reads.
            frames.closed().await;
        });
        Response::new(body(receive))
    }))
    .await;
    let pool = BackendPool::new([stalls.url()]).unwrap();
    let proxy = Server::http(ReverseProxy::builder(&pool).body_timeout(millis(50)).build()).await;
    let response = common::client().oneshot(over_http(&proxy.url(), &[])).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
    ended_as(&pool, Outcome::Timeout).await;
}
