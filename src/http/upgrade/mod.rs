//! Connections that go on in another protocol: see [`Upgrade`].

mod asked;
mod tunnel;

pub(super) use self::asked::Asked;
use self::asked::Switching;
use super::own::own;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service};

/// How long a tunnel may be silent in both directions. What has nothing to say for longer mostly has nobody left to say it;
/// those who stay say something every minute, so as to be noticed by what stands between them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Puts an [`Upgrade`] in front of a service.
#[derive(Clone, Debug)]
pub struct UpgradeLayer {
    policy: Arc<Policy>,
}

#[derive(Clone, Debug)]
struct Policy {
    protocols: Vec<Box<str>>,
    idle_timeout: Duration,
}

impl UpgradeLayer {
    /// To `websocket` and to nothing else; a tunnel that is silent for an hour is closed.
    pub fn new() -> Self {
        Self { policy: Arc::new(Policy { protocols: vec!["websocket".into()], idle_timeout: IDLE_TIMEOUT }) }
    }

    /// To nothing.
    pub fn none() -> Self {
        Self::new().protocols([])
    }

    /// To these protocols alone, by the names that they have in `Upgrade`. `h2c` should not be among them: what is asked
    /// for in it is checked by nobody.
    pub fn protocols<'a>(mut self, protocols: impl IntoIterator<Item = &'a str>) -> Self {
        Arc::make_mut(&mut self.policy).protocols = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// How long a tunnel may be without a byte in either direction before both sides are closed: at least so long, at most
    /// twice that. More than zero.
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        Arc::make_mut(&mut self.policy).idle_timeout = idle_timeout;
        self
    }
}

impl Default for UpgradeLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for UpgradeLayer {
    type Service = Upgrade<S>;

    fn layer(&self, inner: S) -> Upgrade<S> {
        Upgrade { inner, policy: own(&self.policy) }
    }
}

/// Lets clients and backends go on in another protocol, such as WebSocket: once per request, above all that answers.
///
/// A request that asks for a protocol on the list, on a connection that its server can give up (as hyper does with
/// `serve_connection_with_upgrades`), is passed on asking for that alone. Where the backend switches to it, with an
/// answer of 101, the two connections become one tunnel: bytes pass as they are, both ways, each way until its own end. The
/// answer's body, and with it the lease of the backend, is held until both are at their end.
///
/// Any other answer passes as it is, body and all. A request that asks for anything else, or has a body, goes on as one that
/// does not ask; [`Forward`](super::Forward) sees to that.
///
/// From HTTP/2, `CONNECT` with such a `:protocol` ([RFC 8441](https://www.rfc-editor.org/rfc/rfc8441)) is asked as a `GET`, and
/// answered with 200 where the backend answers 101, and with 502 where it answers with success and does not switch.
///
/// A tunnel runs as a task of tokio's, like the connections that it is made of: the server gives up its connection only
/// when the answer is out.
#[derive(Clone, Debug)]
pub struct Upgrade<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S, B, R> Service<Request<B>> for Upgrade<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body,
    R: Body<Data: Send> + Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let switching = Switching::asked(&mut request, &self.policy.protocols)
            .map(|switching| Box::new((switching, self.policy.idle_timeout)));
        ResponseFuture { inner: self.inner.call(request), switching }
    }
}

pin_project! {
    /// The response of an [`Upgrade`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // Apart: few ask, and it would be moved around with every request.
        switching: Option<Box<(Switching, Duration)>>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data: Send> + Default + Send + 'static,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some((switching, idle_timeout)) = this.switching.take().map(|switching| *switching) {
            if switching.is_misleading(&response) {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response.headers_mut().clear();
                *response.body_mut() = R::default();
            } else if let Some((client, backend)) = switching.switch(&mut response) {
                let held = std::mem::take(response.body_mut());
                tunnel::open(client, backend, held, idle_timeout);
            }
        }
        Poll::Ready(Ok(response))
    }
}
