#[cfg(feature = "tls")]
use super::TlsConfig;
use super::{dial::Dial, exchange::exchange, protocol::Protocol};
use crate::{backend::Origin, error::BoxError, health::Probe};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Method, Request, StatusCode,
    header::{self, HeaderValue},
    uri::PathAndQuery,
};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{ops::RangeInclusive, pin::pin};

/// A backend is healthy if it answers a GET with 2xx over HTTP/1.1, with TLS where its URL says `https`.
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

    fn request(&self, target: &Origin) -> Result<Request<Empty<Bytes>>, BoxError> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.as_str().parse()?;
        *request.headers_mut() = self.headers.clone();
        if !self.headers.contains_key(header::HOST) {
            let host = match self.dial.port {
                Some(port) => HeaderValue::try_from(format!("{}:{port}", target.authority().host())),
                None => HeaderValue::from_str(target.authority().as_str()),
            };
            request.headers_mut().insert(header::HOST, host?);
        }
        Ok(request)
    }

    fn expects(&self, status: StatusCode) -> bool {
        if self.statuses.is_empty() {
            return status.is_success();
        }
        self.statuses.iter().any(|statuses| statuses.contains(&status.as_u16()))
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe<Origin> for HttpProbe {
    async fn check(&self, target: Origin) -> Result<String, BoxError> {
        let request = self.request(&target)?;
        let stream = self.dial.connect(&target, Protocol::Http1).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let asked = async {
            let response = sender.send_request(request).await?;
            let seen = format!("status: {}", response.status().as_u16());
            if !self.expects(response.status()) {
                return Err(seen.into());
            }
            match &self.contains {
                Some(text) if !contains(response.into_body(), text).await? => {
                    Err(format!("{seen}, without {:?} in its body", String::from_utf8_lossy(text)).into())
                }
                _ => Ok(seen),
            }
        };
        exchange(asked, connection).await
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
