#[cfg(feature = "tls")]
use super::TlsConfig;
use super::{
    dial::Dial,
    exchange::exchange,
    grpc,
    grpc_health::{framed, serving_status},
    protocol::Protocol,
};
use crate::{backend::Origin, error::BoxError, health::Probe};
use bytes::{BufMut, BytesMut};
use h2::RecvStream;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Parts, PathAndQuery},
};

/// A backend is healthy if its `grpc.health.v1.Health/Check` says `SERVING`, over HTTP/2, with TLS where its
/// URL says `https`.
///
/// Each check opens a connection of its own, as [`HttpProbe`](super::HttpProbe) does.
///
/// ```no_run
/// use tower_balancer::{BackendPool, HealthChecker, http::GrpcProbe};
///
/// # #[tokio::main] async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
/// let pool = BackendPool::new(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
/// tokio::spawn(HealthChecker::new(&pool, GrpcProbe::new().service("shop.Orders")).run());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct GrpcProbe {
    service: String,
    dial: Dial,
}

/// Longer than any answer of a health service.
const ANSWER_LIMIT: usize = 4 * 1024;

const CHECK: PathAndQuery = PathAndQuery::from_static("/grpc.health.v1.Health/Check");

impl GrpcProbe {
    /// Asks how the server as a whole is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for one service of the server, by its full name.
    pub fn service(self, service: impl Into<String>) -> Self {
        Self { service: service.into(), ..self }
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

    fn request(&self, target: &Origin) -> Result<Request<()>, BoxError> {
        let mut parts = Parts::default();
        parts.scheme = Some(target.scheme().clone());
        parts.authority = Some(self.dial.authority(target)?);
        parts.path_and_query = Some(CHECK);
        let mut request = Request::post(Uri::from_parts(parts)?).body(())?;
        for (name, value) in
            [(CONTENT_TYPE, "application/grpc"), (TE, "trailers"), (USER_AGENT, "tower-balancer health check")]
        {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Ok(request)
    }
}

impl Probe<Origin> for GrpcProbe {
    async fn check(&self, target: Origin) -> Result<String, BoxError> {
        let request = self.request(&target)?;
        let (stream, _) = self.dial.connect(&target, Protocol::Http2).await?;
        // By the `h2` crate: hyper would want to spawn the connection, this is a future to be polled.
        let (sender, connection) = h2::client::handshake(stream).await?;
        let asked = async {
            let mut sender = sender.ready().await?;
            let (response, mut body) = sender.send_request(request, false)?;
            body.send_data(framed(&self.service), true)?;
            read(response.await?).await
        };
        exchange(asked, connection).await
    }
}

async fn read(response: Response<RecvStream>) -> Result<String, BoxError> {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("status: {}", head.status.as_u16()).into());
    }
    // An answer without a message may have its end in its beginning.
    if let Some(status) = status(&head.headers) {
        status?;
    }
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        message.put(data?);
        if message.len() > ANSWER_LIMIT {
            return Err("the answer is too long for a health service's".into());
        }
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    status(&trailers).unwrap_or_else(|| Err("the answer has no grpc-status".into()))?;
    match serving_status(&message).ok_or("the answer is no HealthCheckResponse")? {
        1 => Ok("SERVING".to_owned()),
        0 => Err("UNKNOWN".into()),
        2 => Err("NOT_SERVING".into()),
        3 => Err("SERVICE_UNKNOWN".into()),
        other => Err(format!("serving status {other}").into()),
    }
}

/// What the headers or the trailers say about the call, if they do.
fn status(headers: &HeaderMap) -> Option<Result<(), BoxError>> {
    Some(match grpc::status(headers)? {
        0 => Ok(()),
        12 => Err("grpc-status: 12 UNIMPLEMENTED, the server has no grpc.health.v1.Health".into()),
        code => {
            let name = NAMES.get(code as usize).copied().unwrap_or("that is none");
            Err(format!("grpc-status: {code} {name}").into())
        }
    })
}

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
