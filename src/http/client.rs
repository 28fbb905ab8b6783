use super::{
    connection::{Connector, Served, connector},
    excused::{Excuse, Excused, Progress, SentBody},
};
use crate::error::BoxError;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::Service;

/// A server on the same network answers a SYN in a millisecond. After this long it is better to ask another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections without a request that are kept for each backend.
const MAX_IDLE: usize = 256;

/// An HTTP client that keeps connections to the backends open and reuses them. Cleartext only.
///
/// A clone shares the connections. Dropping a response future aborts the request.
pub struct Client<B> {
    inner: legacy::Client<Connector, SentBody<B>>,
    http2: bool,
}

/// The settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    http2: bool,
    connect_timeout: Duration,
    max_idle: usize,
}

impl ClientConfig {
    /// HTTP/1.1, 1 s to connect, up to 256 idle connections per backend.
    pub fn new() -> Self {
        Self { http2: false, connect_timeout: CONNECT_TIMEOUT, max_idle: MAX_IDLE }
    }

    /// HTTP/2 without negotiation ("prior knowledge"), as gRPC servers without TLS expect.
    pub fn http2(self) -> Self {
        Self { http2: true, ..self }
    }

    /// How long connecting may take, over all addresses of a name.
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// How many connections without a request are kept for each backend.
    pub fn max_idle(self, max_idle: usize) -> Self {
        Self { max_idle, ..self }
    }

    /// The client.
    pub fn build<B>(&self) -> Client<B>
    where
        B: Body<Data: Send> + Send,
    {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(self.connect_timeout));
        tcp.set_nodelay(true);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.http2_only(self.http2).pool_max_idle_per_host(self.max_idle).pool_timer(TokioTimer::new());
        Client { inner: builder.build(connector(tcp)), http2: self.http2 }
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

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture {
        if !self.http2 {
            keep_body(&mut request);
        }
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let request = request.map(|body| SentBody::new(body, length));
        let progress = request.body().progress();
        ResponseFuture { inner: self.inner.request(request), progress }
    }
}

/// hyper drops the body of a GET or HEAD whose length is not known, unless it is told how to frame it.
fn keep_body<B: Body>(request: &mut Request<B>) {
    let seldom = matches!(*request.method(), Method::GET | Method::HEAD);
    let body = request.body();
    if seldom && !body.is_end_stream() && body.size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), http2: self.http2 }
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

pin_project! {
    /// The response of a [`Client`].
    pub struct ResponseFuture {
        #[pin]
        inner: legacy::ResponseFuture,
        progress: Progress,
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ClientBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match ready!(this.inner.poll(cx)) {
            // No upgrade was asked for, so there is nothing that this could answer.
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Poll::Ready(Err("the backend switched protocols unasked".into()))
            }
            Ok(mut response) => {
                if let Some(served) = response.extensions_mut().remove::<Served>() {
                    served.mark();
                }
                let progress = this.progress.clone();
                Poll::Ready(Ok(response.map(|inner| ClientBody { inner, progress })))
            }
            // Nothing excuses a backend that cannot be reached.
            Err(error) if error.is_connect() => Poll::Ready(Err(error.into())),
            Err(error) => {
                let reused = Served::before(&error).then_some(Excuse::Reused);
                Poll::Ready(Err(excused(this.progress.excuse_before_answer().or(reused), error)))
            }
        }
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
        progress: Progress,
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        this.inner.poll_frame(cx).map_err(|error| excused(this.progress.excuse(), error))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
