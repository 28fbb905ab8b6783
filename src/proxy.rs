//! The standard stack, spelled once.
//!
//! ```text
//!  request
//!     │  Trace              its place in a trace         ┐
//!     │  Upgrade            WebSocket                    │
//!     │  Respond            the status of an error       │
//!     │  Forward            headers, in and out          │ once per request
//!     │  Session            the cookie of a session      │
//!     │  Deadline           the time of all attempts     │
//!     │  Retry              another backend, after       ┘
//!     │  Hedge              a second backend, meanwhile  ┐
//!     │  Balancer           pick, lease                  │
//!     │  Feedback           judge, report                │
//!     │  TraceAttempt       and that of the attempt      │
//!     │  AccessLog          what went where              │ once per attempt
//!     │  Address            the URI of the backend       │
//!     │  ResponseTimeout    silence before the answer    │
//!     │  BodyTimeout        silence in the answer        │
//!     ▼  Client             to the backend               ┘
//! ```
//!
//! ```no_run
//! use axum::Router;
//! use tower_balancer::{BackendPool, ReverseProxy, health::HealthChecker, http::HttpProbe};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! tokio::spawn(HealthChecker::new(&pool, HttpProbe::new()).run());
//!
//! let app = Router::new().fallback_service(ReverseProxy::new(&pool));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A backend that cannot be reached is taken out at once, and its request goes to another. A
//! [`HealthChecker`](crate::HealthChecker) puts it back in when a probe passes; without one it is tried again with single
//! requests of clients, after 5 s at first, later after longer.
//!
//! The backends learn the client's address in `X-Forwarded-For` where the server puts a [`Peer`](crate::http::Peer) into
//! the request; the `axum_app` example shows how.

use crate::{
    backend::Origin,
    balance::{Balancer, BalancerLayer},
    error::BoxError,
    feedback::{Feedback, FeedbackLayer},
    http::{
        AccessLog, AccessLogLayer, Address, AddressLayer, AtEndOfBody, BodyTimeout, BodyTimeoutLayer, Client,
        ClientBody, ClientConfig, Deadline, DeadlineLayer, Forward, ForwardBody, ForwardLayer, Hedge, HedgeLayer,
        HttpClassify, LeasedBody, ReplayBody, RequestKey, Respond, RespondBody, RespondLayer, ResponseTimeout,
        ResponseTimeoutLayer, Retry, RetryLayer, Session, SessionCookie, SessionLayer, TimedBody, Trace, TraceAttempt,
        TraceLayer, TriedBackends, Upgrade, UpgradeLayer, WatchedBody,
        future::{
            DeadlineFuture, ForwardFuture, RespondFuture, RetryFuture, SessionFuture, TraceFuture, UpgradeFuture,
        },
    },
    pool::BackendPool,
    strategy::{RoundRobin, Strategy},
};
use http::{Request, Response};
use http_body::Body;
use std::{
    convert::Infallible,
    fmt,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Service, ServiceBuilder};

/// How long a backend may be silent before its answer. Long enough for a slow report, short enough that a client is told.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may be silent in the middle of one. Streams of events are silent for a while in good order, and most say
/// something every half minute; a connection that is dead without a word must not hold a lease for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(5 * 60);

type Sent<B> = TimedBody<ReplayBody<ForwardBody<B>>>;
type Logged<B> = TraceAttempt<AccessLog<Address<ResponseTimeout<BodyTimeout<Client<Sent<B>>>>>>>;
type Judged<B> = Feedback<Logged<B>, HttpClassify, AtEndOfBody>;
type Told = (TriedBackends, (Option<RequestKey>, Option<SessionCookie>));
type Attempt<G, B> = Balancer<Judged<B>, Origin, G, Told>;
type Stack<G, B> = Trace<Upgrade<Respond<Forward<Session<Deadline<Retry<Hedge<Attempt<G, B>>>>>>>>>;
type Tried<G, B> = RetryFuture<Hedge<Attempt<G, B>>, ForwardBody<B>>;

/// The response of a [`ReverseProxy`].
pub type ResponseFuture<G, B> =
    TraceFuture<UpgradeFuture<RespondFuture<ForwardFuture<SessionFuture<DeadlineFuture<Tried<G, B>>>>>>>;

/// The client under a [`ReverseProxy`] that takes requests with a body of type `B`.
pub type ProxyClient<B> = Client<Sent<B>>;

/// The body of a [`ReverseProxy`]'s answer: the backend's, as it arrives, or a few words of our own.
pub type ProxyBody = RespondBody<ForwardBody<LeasedBody<WatchedBody<ClientBody>>>>;

/// A reverse proxy over a pool, as one service: for axum's `fallback_service`, or for a hyper server.
///
/// It takes any request and always answers. See the [module](self) for the layers it is made of; a host that wants
/// another order or other layers stacks them itself. A clone shares everything.
///
/// `B` is the body of the requests. Mostly it follows from where the proxy is used; where it is kept, it has to be said:
/// `ReverseProxy<RoundRobin, axum::body::Body>`.
pub struct ReverseProxy<G: Strategy, B> {
    stack: Stack<G, B>,
}

impl<B> ReverseProxy<RoundRobin, B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// A proxy over `pool` with the defaults: round robin, one more attempt on another backend within a budget, 30 s of silence
    /// before an answer and 5 minutes in the middle of one, no other time for a request than it says itself, HTTP/1.1 to the
    /// backends.
    ///
    /// Spawn a [`HealthChecker`](crate::HealthChecker) beside it: without one, clients' requests find out whether a backend
    /// that failed is back.
    pub fn new(pool: &BackendPool<Origin>) -> Self {
        ReverseProxy::builder(pool).build()
    }
}

// The type of the request body is found out when the proxy is built.
impl ReverseProxy<RoundRobin, ()> {
    /// A proxy over `pool`, to be adjusted.
    pub fn builder(pool: &BackendPool<Origin>) -> Builder<RoundRobin> {
        let settings = Settings {
            pool: pool.clone(),
            client: ClientConfig::new(),
            response_timeout: RESPONSE_TIMEOUT,
            body_timeout: BodyTimeoutLayer::new(BODY_TIMEOUT),
            deadline: DeadlineLayer::none(),
            access_log: AccessLogLayer::new(),
            trace: TraceLayer::none(),
            upgrade: UpgradeLayer::new(),
            forward: ForwardLayer::new(),
            address: AddressLayer::new(),
            key: None,
            session: None,
            retry: RetryLayer::default(),
            hedge: None,
            wait: None,
        };
        Builder { strategy: RoundRobin::new(), settings }
    }
}

/// The settings of a [`ReverseProxy`].
#[derive(Clone, Debug)]
pub struct Builder<G> {
    strategy: G,
    settings: Settings,
}

/// All but the strategy, which has a type of its own.
#[derive(Clone, Debug)]
struct Settings {
    pool: BackendPool<Origin>,
    client: ClientConfig,
    response_timeout: Duration,
    body_timeout: BodyTimeoutLayer,
    deadline: DeadlineLayer,
    access_log: AccessLogLayer,
    trace: TraceLayer,
    upgrade: UpgradeLayer,
    forward: ForwardLayer,
    address: AddressLayer,
    key: Option<RequestKey>,
    session: Option<SessionCookie>,
    retry: RetryLayer,
    /// `None` for what the retry allows.
    hedge: Option<HedgeLayer>,
    /// For how long, and how many at once.
    wait: Option<(Duration, usize)>,
}

impl<G: Strategy> Builder<G> {
    /// Which backend takes the next request.
    pub fn strategy<H: Strategy>(self, strategy: H) -> Builder<H> {
        Builder { strategy, settings: self.settings }
    }

    /// What is tried again, how often, and out of which budget; [`RetryLayer::none`] for nothing, and then
    /// nothing is [hedged](Self::hedge) either, unless that is set.
    pub fn retry(mut self, retry: RetryLayer) -> Self {
        self.settings.retry = retry;
        self
    }

    /// When a second backend is asked while the first has not answered: unless set, where it has stopped answering,
    /// out of the budget of the retry; [`HedgeLayer::none`] for never.
    pub fn hedge(mut self, hedge: HedgeLayer) -> Self {
        self.settings.hedge = Some(hedge);
        self
    }

    /// What binds a request to a backend, for strategies that keep equal keys together.
    pub fn key(mut self, key: RequestKey) -> Self {
        self.settings.key = Some(key);
        self
    }

    /// The cookie that keeps a client on its backend, where the strategy is [`Sticky`](crate::strategy::Sticky).
    pub fn session(mut self, cookie: SessionCookie) -> Self {
        self.settings.session = Some(cookie);
        self
    }

    /// How connections to the backends are made.
    pub fn client(mut self, client: ClientConfig) -> Self {
        self.settings.client = client;
        self
    }

    /// How long a backend may be silent while it is its turn, before the head of its answer; see [`ResponseTimeout`]. Then
    /// the client is told 504.
    pub fn response_timeout(mut self, response_timeout: Duration) -> Self {
        self.settings.response_timeout = response_timeout;
        self
    }

    /// How long a backend may be silent in the middle of its answer, while the client waits for more of it; see
    /// [`BodyTimeout`]. Then the answer is broken off. `None` for ever, where streams are silent for hours.
    pub fn body_timeout(mut self, body_timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.body_timeout = body_timeout.into().map_or(BodyTimeoutLayer::none(), BodyTimeoutLayer::new);
        self
    }

    /// How long a request may take to the head of its answer, all attempts together; see [`deadline`](crate::http::deadline).
    /// Then the client is told 504. Whether set or not, a request that says itself how much time it has is taken at its
    /// word, where that is less.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.settings.deadline = DeadlineLayer::new(time);
        self
    }

    /// The backends get the `Host` that the client asked for, instead of their own.
    pub fn keep_host(mut self) -> Self {
        self.settings.address = self.settings.address.keep_host();
        self
    }

    /// Which attempts are told of, where somebody listens: all, unless set.
    pub fn access_log(mut self, access_log: AccessLogLayer) -> Self {
        self.settings.access_log = access_log;
        self
    }

    /// Which place requests have in their traces, and which are recorded: unless set, none is, and what clients say of it
    /// passes as it is. See [`trace_context`](crate::http::trace_context).
    pub fn trace(mut self, trace: TraceLayer) -> Self {
        self.settings.trace = trace;
        self
    }

    /// Which protocols clients and backends may go on in: WebSocket, unless set.
    pub fn upgrade(mut self, upgrade: UpgradeLayer) -> Self {
        self.settings.upgrade = upgrade;
        self
    }

    /// What the backends are told about the client, whose word on it is taken, and what is refused.
    pub fn forward(mut self, forward: ForwardLayer) -> Self {
        self.settings.forward = forward;
        self
    }

    /// With no backend available, up to `limit` requests wait for one, each for up to `timeout`; see
    /// [`BalancerLayer::wait`]. Unless set, none does.
    pub fn wait(mut self, timeout: Duration, limit: usize) -> Self {
        self.settings.wait = Some((timeout, limit));
        self
    }

    /// The proxy.
    pub fn build<B>(self) -> ReverseProxy<G, B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let client = self.settings.client.build();
        self.build_over(client)
    }

    /// The same over a client that there is already, whatever was said of [one](Self::client): its connections are used on
    /// where other settings change.
    pub fn build_over<B>(self, client: ProxyClient<B>) -> ReverseProxy<G, B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let Self { strategy, settings } = self;
        let hedge = settings.hedge.unwrap_or_else(|| HedgeLayer::beside(&settings.retry)).right_below_retry();
        let told = (TriedBackends, (settings.key, settings.session.clone()));
        let balancer = BalancerLayer::new(&settings.pool, strategy).describe_by(told);
        let balancer = match settings.wait {
            Some((timeout, limit)) => balancer.wait(timeout, limit),
            None => balancer,
        };
        let attempts = settings.trace.attempts();
        let stack = ServiceBuilder::new()
            .layer(settings.trace)
            .layer(settings.upgrade)
            .layer(RespondLayer::new())
            .layer(settings.forward)
            .layer(settings.session.map_or(SessionLayer::none(), SessionLayer::new))
            .layer(settings.deadline)
            .layer(settings.retry)
            .layer(hedge)
            .layer(balancer)
            .layer(FeedbackLayer::http())
            .layer(attempts)
            .layer(settings.access_log)
            .layer(settings.address)
            .layer(ResponseTimeoutLayer::new(settings.response_timeout))
            .layer(settings.body_timeout)
            .service(client);
        ReverseProxy { stack }
    }
}

impl<G, B> Service<Request<B>> for ReverseProxy<G, B>
where
    G: Strategy,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = ResponseFuture<G, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.stack.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<G, B> {
        self.stack.call(request)
    }
}

impl<G: Strategy, B> Clone for ReverseProxy<G, B> {
    fn clone(&self) -> Self {
        Self { stack: self.stack.clone() }
    }
}

impl<G: Strategy, B> fmt::Debug for ReverseProxy<G, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReverseProxy").field(&self.stack).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beyond 256 bytes it costs twice as much each time that one is moved, and each is moved some forty times.
    #[test]
    fn what_passes_through_the_layers_fits_into_few_words() {
        assert!(size_of::<Response<ProxyBody>>() <= 160);
        assert!(size_of::<Request<Sent<Box<()>>>>() <= 256);
    }
}
