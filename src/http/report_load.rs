use super::orca;
use crate::{backend::LoadEstimate, sync::locked};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;
use tower::{Layer, Service};

/// Puts a [`ReportLoad`] in front of a server's service. All services of one layer, and of its clones, count together.
///
/// ```
/// use axum::{Router, routing::get};
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_balancer::http::{ReportLoadLayer, orca};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(ReportLoadLayer::new().capacity(100.0).probe_path("/load"));
///
/// let mut answer = app.oneshot(Request::get("/load").body(axum::body::Body::empty())?).await?;
/// assert_eq!(answer.status(), 204);
/// let report = orca::take(answer.headers_mut()).ok_or("it tells")?;
/// assert_eq!(report.in_flight, Some(0.0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ReportLoadLayer {
    config: Config,
    load: Arc<Mutex<LoadEstimate>>,
}

#[derive(Clone, Default)]
struct Config {
    utilization: Option<Arc<dyn Fn() -> f64 + Send + Sync>>,
    probe_path: Option<Arc<str>>,
}

impl ReportLoadLayer {
    /// Tells requests and errors per second, requests in flight and their latency, and no utilization.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server is fully used with so many requests in flight: its utilization is the mean share of that, of about the
    /// last 5 s.
    pub fn capacity(self, requests: f64) -> Self {
        Self { load: Arc::new(Mutex::new(LoadEstimate::new().capacity(requests))), ..self }
    }

    /// The utilization, where 1 is all that the server can do, is asked of `utilization`, for each answer. It goes before
    /// a [`capacity`](Self::capacity). What is no finite number above zero is not told.
    pub fn utilization(mut self, utilization: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.config.utilization = Some(Arc::new(utilization));
        self
    }

    /// A `GET` of this path is answered at once, with 204 and the load, and counts as no request. Off by default.
    pub fn probe_path(mut self, path: impl Into<Arc<str>>) -> Self {
        self.config.probe_path = Some(path.into());
        self
    }
}

impl<S> Layer<S> for ReportLoadLayer {
    type Service = ReportLoad<S>;

    fn layer(&self, inner: S) -> ReportLoad<S> {
        ReportLoad { inner, config: self.config.clone(), load: Arc::clone(&self.load) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("probe_path", &self.probe_path).finish_non_exhaustive()
    }
}

/// Tells whoever balances over this server how loaded it is, in the head of each answer: see [`orca`].
///
/// A request is in flight until the end of its answer's body. Its latency is the time to the answer's head. An answer of
/// 5xx and a failure of the service are errors, and no samples of the latency; a request of which the client lets go
/// before its answer is neither. What the service itself tells goes before what is counted here.
#[derive(Clone, Debug)]
pub struct ReportLoad<S> {
    inner: S,
    config: Config,
    load: Arc<Mutex<LoadEstimate>>,
}

impl<S, B, R> Service<Request<B>> for ReportLoad<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<ReportBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = self.config.clone();
        if request.method() == Method::GET && config.probe_path.as_deref() == Some(request.uri().path()) {
            return ResponseFuture { state: State::Probed { load: Arc::clone(&self.load) }, config };
        }
        let counted = Some(Counted::begin(Arc::clone(&self.load)));
        ResponseFuture { state: State::Called { inner: self.inner.call(request), counted }, config }
    }
}

impl Config {
    fn tell<B>(&self, load: &Mutex<LoadEstimate>, response: &mut Response<B>) {
        let mut report = locked(load).report(Instant::now().into_std());
        if let Some(utilization) = &self.utilization {
            report.utilization = utilization();
        }
        response.headers_mut().entry(orca::HEADER).or_insert_with(|| orca::text(&report));
    }
}

/// A request in flight, however it ends.
#[derive(Debug)]
struct Counted {
    load: Arc<Mutex<LoadEstimate>>,
    in_flight_at_start: u32,
    started: Instant,
    /// How long it took to the answer, and whether that was a good one.
    answered: Option<(Duration, bool)>,
}

impl Counted {
    fn begin(load: Arc<Mutex<LoadEstimate>>) -> Self {
        let started = Instant::now();
        let in_flight_at_start = locked(&load).begin(started.into_std());
        Self { load, in_flight_at_start, started, answered: None }
    }

    fn answered(&mut self, ok: bool) {
        self.answered = Some((self.started.elapsed(), ok));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        match self.answered {
            Some((took, ok)) => locked(&self.load).end(self.in_flight_at_start, took, ok, now),
            None => locked(&self.load).cancel(now),
        }
    }
}

pin_project! {
    /// The response of a [`ReportLoad`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
        config: Config,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Called { #[pin] inner: F, counted: Option<Counted> },
        Probed { load: Arc<Mutex<LoadEstimate>> },
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ReportBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match this.state.project() {
            StateProjection::Probed { load } => {
                let mut response = Response::new(ReportBody { inner: None, counted: None });
                *response.status_mut() = StatusCode::NO_CONTENT;
                this.config.tell(load, &mut response);
                Ok(response)
            }
            StateProjection::Called { inner, counted } => {
                let result = ready!(inner.poll(cx));
                let mut counted = counted.take().expect("polled after it was ready");
                counted.answered(result.as_ref().is_ok_and(|response| !response.status().is_server_error()));
                result.map(|mut response| {
                    this.config.tell(&counted.load, &mut response);
                    response.map(|body| ReportBody::new(body, counted))
                })
            }
        })
    }
}

pin_project! {
    /// A response body with which a request is in flight.
    #[derive(Debug)]
    pub struct ReportBody<B> {
        // Nothing in the answer to a probe.
        #[pin]
        inner: Option<B>,
        counted: Option<Counted>,
    }
}

impl<B: Body> ReportBody<B> {
    fn new(inner: B, counted: Counted) -> Self {
        // Servers do not ask a body for frames that says it has none.
        let counted = (!inner.is_end_stream()).then_some(counted);
        Self { inner: Some(inner), counted }
    }
}

impl<B: Body> Body for ReportBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let frame = ready!(inner.as_mut().poll_frame(cx));
        // Nothing follows trailers, and servers do not ask whether something does.
        if !matches!(&frame, Some(Ok(frame)) if !frame.is_trailers() && !inner.is_end_stream()) {
            *this.counted = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
