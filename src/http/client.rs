#[cfg(feature = "tls")]
use super::TlsConfig;
use super::{
    excused::{Excuse, Excused, Progress, SentBody},
    protocol::Protocol,
    seldom,
    transport::{Exchange, Failed, Held, Settings, Transport},
    upgrade::Asked,
};
use crate::error::BoxError;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use pin_project_lite::pin_project;
use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::Service;

/// A server on the same network answers a SYN in a millisecond. After this long it is better to ask another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections without a request that are kept for each backend.
const MAX_IDLE: usize = 256;

/// Servers that close idle connections do so after 60 s or more, for the most part; those that do so after less are noticed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// An HTTP client that keeps connections to the backends open and reuses them. With the feature `tls` it speaks TLS to those
/// at `https://`.
///
/// Over HTTP/1.1 a request takes the connection that was used last, or opens one. Over HTTP/2 requests share a connection,
/// and another is opened where 100 are on it, or as many as the server allows for. A request whose connection turns out to
/// be closed, of which nothing was sent, goes on a new one.
///
/// The head of an answer over HTTP/1.1 may have 100 lines and 64 KiB, and over HTTP/2 256 KiB; longer ones fail.
///
/// A clone shares the connections. Dropping a response future aborts the request; so does dropping the body of an answer
/// before its end. Both close the connection where it is one of HTTP/1.1, unless the rest of the answer is there already.
pub struct Client<B> {
    transport: Arc<Transport<SentBody<B>>>,
}

/// The settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    protocol: Protocol,
    #[cfg(feature = "tls")]
    tls: TlsConfig,
    connect_timeout: Duration,
    max_idle: usize,
    idle_timeout: Duration,
}

impl ClientConfig {
    /// HTTP/1.1, 1 s to connect, up to 256 idle connections per backend, for 90 s.
    pub fn new() -> Self {
        Self {
            protocol: Protocol::Http1,
            #[cfg(feature = "tls")]
            tls: TlsConfig::new(),
            connect_timeout: CONNECT_TIMEOUT,
            max_idle: MAX_IDLE,
            idle_timeout: IDLE_TIMEOUT,
        }
    }

    /// HTTP/2: without TLS by prior knowledge, as gRPC servers expect it; over TLS the backend has to agree.
    pub fn http2(self) -> Self {
        Self { protocol: Protocol::Http2, ..self }
    }

    /// HTTP/2 or HTTP/1.1, as the backend chooses when TLS begins (ALPN, [RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)), each
    /// connection by itself. Without TLS it cannot say, and it is HTTP/1.1. What asks to switch to another protocol, such as
    /// WebSocket, goes over HTTP/1.1 where the backend speaks that too.
    pub fn auto(self) -> Self {
        Self { protocol: Protocol::Auto, ..self }
    }

    /// Who is trusted behind `https://`, and who we are there; unless set, whom the system trusts, and nobody.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: TlsConfig) -> Self {
        Self { tls, ..self }
    }

    /// How long connecting may take: with looking up the name, over all of its addresses, and with TLS.
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// How many connections without a request are kept for each backend. Over HTTP/2 there are few, and all are.
    pub fn max_idle(self, max_idle: usize) -> Self {
        Self { max_idle, ..self }
    }

    /// How long a connection without a request is kept: less than the backends keep theirs. One that is older is not used
    /// again, and closed when the next is used or opened.
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// The client.
    pub fn build<B>(&self) -> Client<B>
    where
        B: Body<Data: Send> + Send,
    {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(self.connect_timeout));
        connector.set_nodelay(true);
        // TLS is ours to begin.
        connector.enforce_http(false);
        let settings = Settings {
            connector,
            protocol: self.protocol,
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            connect_timeout: self.connect_timeout,
            max_idle: self.max_idle,
            idle_timeout: self.idle_timeout,
        };
        Client { transport: Arc::new(Transport::new(settings)) }
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Service<Request<B>> for Client<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<ClientBody>;
    type Error = BoxError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let (head, body) = request.into_parts();
        let upgrade = seldom::get(&head.headers, &header::UPGRADE).cloned().map(Box::new);
        let length = || head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let body = SentBody::new(body, length);
        let progress = body.progress();
        ResponseFuture { inner: self.transport.send(Request::from_parts(head, body)), progress, upgrade }
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self { transport: Arc::clone(&self.transport) }
    }
}

impl<B> fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn excused(excuse: Option<Excuse>, error: impl Into<BoxError>) -> BoxError {
    match excuse {
        Some(excuse) => Excused::new(excuse, error).into(),
        None => error.into(),
    }
}

/// The response of a [`Client`].
pub struct ResponseFuture {
    inner: Exchange,
    progress: Progress,
    /// The protocol that was asked for, which is rare.
    upgrade: Option<Box<HeaderValue>>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<ClientBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.inner.as_mut().poll(cx)) {
            Ok((response, _)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let asked = self.upgrade.as_deref();
                if !asked.is_some_and(|asked| Asked::is_answered(asked, response.headers())) {
                    return Poll::Ready(Err("the backend switched protocols unasked".into()));
                }
                let progress = self.progress.clone();
                Ok(response.map(|inner| ClientBody { inner, held: None, progress, switched: true, first: None }))
            }
            Ok((response, held)) => {
                let progress = self.progress.clone();
                let body = |inner| ClientBody { inner, held, progress, switched: false, first: None };
                let mut response = response.map(body);
                let body = response.body_mut();
                // Where what came with the head is no body, it is no answer either: a server that has written the head takes it
                // back when the first frame fails, and its client gets nothing at all.
                if body.size_hint().exact().is_none()
                    && let Poll::Ready(Some(first)) = Pin::new(&mut *body).poll_frame(cx)
                {
                    body.first = Some(Box::new(first.map_err(|error| Excused::new(Excuse::Begun, error))?));
                }
                Ok(response)
            }
            // Nothing excuses a backend that cannot be reached.
            Err(Failed::Unreachable(error)) => Err(error.into()),
            Err(Failed::Broken { error, reused }) => {
                let reused = reused.then_some(Excuse::Reused);
                Err(excused(self.progress.excuse_before_answer().or(reused), error))
            }
        })
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The body of a backend's answer, as it arrives.
    #[derive(Debug)]
    pub struct ClientBody {
        #[pin]
        inner: Incoming,
        // After the body: what is given up is given back.
        held: Option<Held>,
        progress: Progress,
        // Nothing comes here, but the connection is in use until someone has seen that.
        switched: bool,
        // What was there with the head, of a body of unknown length. Most have one, and all are moved around.
        first: Option<Box<Frame<Bytes>>>,
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(*first)));
        }
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let over = match &frame {
            // RFC 9113, section 8.1: a stream may be reset with NO_ERROR after an answer, and not in the middle of one. For
            // hyper it is the end, wherever it comes.
            None if matches!(this.held, Some(Held::Stream(_))) && !this.inner.is_end_stream() => {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended before the answer");
                return Poll::Ready(Some(Err(excused(this.progress.excuse(), cut))));
            }
            None => true,
            // Nothing follows trailers, and who reads the last of a known length does not ask for more.
            Some(Ok(frame)) => frame.is_trailers() || this.inner.is_end_stream(),
            Some(Err(_)) => false,
        };
        if over {
            *this.held = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| excused(this.progress.excuse(), error))))
    }

    fn is_end_stream(&self) -> bool {
        !self.switched && self.first.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
