use crate::{backend::Origin, error::BoxError, health::Probe};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    Request,
    header::{self, HeaderValue},
    uri::{PathAndQuery, Scheme},
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::pin::pin;
use tokio::net::TcpStream;

/// A backend is healthy if it answers a GET with 2xx, over HTTP/1.1 without TLS.
///
/// Each check opens a connection of its own: a server that has stopped accepting is not well, however many old
/// connections it still serves. The body of the answer is not read.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    path: PathAndQuery,
}

impl HttpProbe {
    /// Asks for `/`.
    pub fn new() -> Self {
        Self { path: PathAndQuery::from_static("/") }
    }

    /// Asks for `path`.
    pub fn path(self, path: PathAndQuery) -> Self {
        Self { path }
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe<Origin> for HttpProbe {
    async fn check(&self, target: Origin) -> Result<String, BoxError> {
        if *target.scheme() != Scheme::HTTP {
            return Err("the probe does not speak TLS".into());
        }
        let mut request = Request::get(self.path.as_str()).body(Empty::<Bytes>::new())?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(target.authority().as_str())?);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("tower-balancer health check"));

        let stream = TcpStream::connect((target.host(), target.port())).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection is driven here and closed with the answer: no task is spawned.
        let response = match select(pin!(sender.send_request(request)), pin!(connection)).await {
            Either::Left((response, _)) => response?,
            Either::Right((closed, response)) => {
                closed?;
                response.await?
            }
        };
        let status = response.status();
        let seen = format!("status: {}", status.as_u16());
        if status.is_success() { Ok(seen) } else { Err(seen.into()) }
    }
}
