#[cfg(feature = "tls")]
use super::TlsConfig;
use super::{dial::Dial, exchange::exchange, protocol::Protocol};
use crate::{backend::Origin, error::BoxError, health::Probe};
use bytes::Bytes;
use h2::RecvStream;
use http::{
    HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri,
    header::{self, HeaderValue},
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{
    ops::RangeInclusive,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

/// A backend is healthy if it answers a GET with 2xx, over HTTP/1.1 unless it is told to speak otherwise, with TLS where its URL
/// says `https`.
///
/// Each check opens a connection of its own: a server that has stopped accepting is not well, however many old
/// connections it still serves. The body of the answer is not read, unless something is [looked for](Self::body_contains)
/// in it.
///
/// ```
/// use http::{HeaderValue, Method};
/// use tower_balancer::http::HttpProbe;
///
/// let probe = HttpProbe::new()
///     .path("/health?deep".parse()?)
///     .host(HeaderValue::from_static("shop.example"))
///     .status(200..=200)
///     .status(429..=429) // busy, but alive
///     .body_contains("\"ready\":true");
///
/// // Where the health page is on a port of its own.
/// let probe = HttpProbe::new().method(Method::HEAD).port(9000);
/// # Ok::<_, http::uri::InvalidUri>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpProbe {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    protocol: Protocol,
    dial: Dial,
    /// 2xx where there is none.
    statuses: Vec<RangeInclusive<u16>>,
    contains: Option<Bytes>,
}

/// How much of a body is read at the most.
const BODY_LIMIT: usize = 64 * 1024;

impl HttpProbe {
    /// Asks for `/`.
    pub fn new() -> Self {
        let agent = (header::USER_AGENT, HeaderValue::from_static("tower-balancer health check"));
        Self {
            method: Method::GET,
            path: PathAndQuery::from_static("/"),
            headers: HeaderMap::from_iter([agent]),
            protocol: Protocol::Http1,
            dial: Dial::default(),
            statuses: Vec::new(),
            contains: None,
        }
    }

    /// Asks by `method` instead of GET; without a body in any case.
    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Asks for `path`.
    pub fn path(self, path: PathAndQuery) -> Self {
        Self { path, ..self }
    }

    /// Asks with `host` as the `Host`, instead of the address that is asked: for servers of several sites.
    pub fn host(self, host: HeaderValue) -> Self {
        self.header(header::HOST, host)
    }

    /// Asks with one more header, or with another value of it.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Asks at another port than the one that serves.
    pub fn port(mut self, port: u16) -> Self {
        self.dial.port = Some(port);
        self
    }

    /// HTTP/2: without TLS by prior knowledge; over TLS the backend has to agree. For backends to which requests go
    /// [so](super::ClientConfig::http2).
    pub fn http2(self) -> Self {
        Self { protocol: Protocol::Http2, ..self }
    }

    /// HTTP/2 or HTTP/1.1, as the backend chooses when TLS begins; without TLS HTTP/1.1. For backends to which requests go
    /// [so](super::ClientConfig::auto).
    pub fn auto(self) -> Self {
        Self { protocol: Protocol::Auto, ..self }
    }

    /// Who is trusted behind `https://`, and who we are there: as it is for the requests.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.dial.tls = tls;
        self
    }

    /// Takes these statuses for well, instead of 2xx. Said again, these as well.
    pub fn status(mut self, statuses: RangeInclusive<u16>) -> Self {
        self.statuses.push(statuses);
        self
    }

    /// Takes an answer for well only where `text` is in the first 64 KiB of its body, byte for byte. No more is read.
    pub fn body_contains(self, text: impl Into<Bytes>) -> Self {
        Self { contains: Some(text.into()), ..self }
    }

    /// What `authority` is asked over HTTP/1.1.
    fn request(&self, authority: &Authority) -> Result<Request<Empty<Bytes>>, BoxError> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.as_str().parse()?;
        *request.headers_mut() = self.headers.clone();
        if let header::Entry::Vacant(vacant) = request.headers_mut().entry(header::HOST) {
            vacant.insert(HeaderValue::from_str(authority.as_str())?);
        }
        Ok(request)
    }

    /// The same over HTTP/2: what would be the `Host` is the authority (RFC 9113, section 8.3.1).
    fn request_http2(&self, scheme: &Scheme, authority: Authority) -> Result<Request<()>, BoxError> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let mut parts = Parts::default();
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(match request.headers_mut().remove(header::HOST) {
            Some(host) => Authority::try_from(host.as_bytes())?,
            None => authority,
        });
        parts.path_and_query = Some(self.path.clone());
        *request.uri_mut() = Uri::from_parts(parts)?;
        Ok(request)
    }

    fn expects(&self, status: StatusCode) -> bool {
        if self.statuses.is_empty() {
            return status.is_success();
        }
        self.statuses.iter().any(|statuses| statuses.contains(&status.as_u16()))
    }

    async fn judge<B>(&self, response: Response<B>) -> Result<String, BoxError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let seen = format!("status: {}", response.status().as_u16());
        if !self.expects(response.status()) {
            return Err(seen.into());
        }
        match &self.contains {
            Some(text) if !contains(response.into_body(), text).await.map_err(Into::into)? => {
                Err(format!("{seen}, without {:?} in its body", String::from_utf8_lossy(text)).into())
            }
            _ => Ok(seen),
        }
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe<Origin> for HttpProbe {
    async fn check(&self, target: Origin) -> Result<String, BoxError> {
        let authority = self.dial.authority(&target)?;
        let (stream, is_http2) = self.dial.connect(&target, self.protocol).await?;
        if is_http2 {
            let request = self.request_http2(target.scheme(), authority)?;
            // By the `h2` crate: hyper would want to spawn the connection, this is a future to be polled.
            let (sender, connection) = h2::client::handshake(stream).await?;
            let asked = async {
                let (answer, _) = sender.ready().await?.send_request(request, true)?;
                self.judge(answer.await?.map(Received)).await
            };
            return exchange(asked, connection).await;
        }
        let request = self.request(&authority)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let asked = async { self.judge(sender.send_request(request).await?).await };
        exchange(asked, connection).await
    }
}

/// The body of an answer over HTTP/2.
struct Received(RecvStream);

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let data = ready!(self.0.poll_data(cx));
        Poll::Ready(data.map(|data| {
            let data = data?;
            // There is room for as much again.
            self.0.flow_control().release_capacity(data.len())?;
            Ok(Frame::data(data))
        }))
    }
}

/// Whether `text` is in the beginning of `body`. What comes after it is not waited for.
async fn contains<B>(body: B, text: &[u8]) -> Result<bool, B::Error>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut read = Vec::new();
    loop {
        let Some(frame) = body.frame().await.transpose()? else { return Ok(text.is_empty()) };
        let data = frame.into_data().unwrap_or_default();
        // It may begin in what came before, and is not looked for twice in the same place.
        let from = (read.len() + 1).saturating_sub(text.len());
        read.extend_from_slice(&data[..data.len().min(BODY_LIMIT - read.len())]);
        if text.is_empty() || read[from..].windows(text.len()).any(|window| window == text) {
            return Ok(true);
        }
        if read.len() == BODY_LIMIT {
            return Ok(false);
        }
    }
}
