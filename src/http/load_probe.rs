use super::{Address, AddressLayer, Client, ClientConfig, orca};
use crate::{
    backend::{Origin, Report},
    error::BoxError,
    pool::Routed,
    probing::LoadProbe,
};
use bytes::{Buf, Bytes};
use http::{Request, uri::PathAndQuery};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use std::{fmt, pin::pin, time::Duration};
use tokio::time::timeout;
use tower::{Layer, ServiceExt};

/// A body of no more bytes is read to its end, in no more time.
const SMALL: usize = 64 * 1024;
const SOON: Duration = Duration::from_millis(50);

/// Asks a backend how loaded it is by a GET, over connections that are kept open. The answer tells in its head, as
/// [`ReportLoadLayer`](super::ReportLoadLayer) makes a server do; its status and its body do not matter. A body beyond 64 KiB or
/// 50 ms costs an HTTP/1 connection.
#[derive(Clone)]
pub struct HttpLoadProbe {
    client: Address<Client<Empty<Bytes>>>,
    path: PathAndQuery,
}

impl HttpLoadProbe {
    /// Asks for `path`.
    pub fn new(path: PathAndQuery) -> Self {
        Self { client: AddressLayer::new().layer(ClientConfig::new().build()), path }
    }

    /// Who is trusted behind `https://`, and who we are there: as it is for the requests.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: super::TlsConfig) -> Self {
        Self { client: AddressLayer::new().layer(ClientConfig::new().tls(tls).build()), ..self }
    }
}

impl LoadProbe<Origin> for HttpLoadProbe {
    async fn ask(&self, target: Origin) -> Result<Report, BoxError> {
        let request = Request::get(self.path.as_str()).body(Empty::new())?;
        let mut answer = self.client.clone().oneshot(Routed { target, request }).await?;
        let report = orca::take(answer.headers_mut());
        drain(answer.into_body()).await;
        report.ok_or_else(|| "the answer tells no load".into())
    }
}

/// Reads what an HTTP/1 connection must be rid of to carry the next request. What is long or late is not worth it.
async fn drain<B: Body>(body: B) {
    let mut body = pin!(body);
    let to_its_end = async {
        let mut left = SMALL;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Buf::remaining);
            let Some(rest) = left.checked_sub(bytes) else { return };
            left = rest;
        }
    };
    _ = timeout(SOON, to_its_end).await;
}

impl fmt::Debug for HttpLoadProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLoadProbe").field("path", &self.path).finish_non_exhaustive()
    }
}
