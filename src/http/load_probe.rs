use super::{Address, AddressLayer, Client, ClientConfig, orca};
use crate::{
    backend::{Origin, Report},
    error::BoxError,
    pool::Routed,
    probing::LoadProbe,
};
use bytes::Bytes;
use http::{Request, uri::PathAndQuery};
use http_body_util::Empty;
use std::fmt;
use tower::{Layer, ServiceExt};

/// Asks a backend how loaded it is by a GET, over connections that are kept open. The answer tells in its head, as
/// [`ReportLoadLayer`](super::ReportLoadLayer) makes a server do; its status does not matter.
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
}

impl LoadProbe<Origin> for HttpLoadProbe {
    async fn ask(&self, target: Origin) -> Result<Report, BoxError> {
        let request = Request::get(self.path.as_str()).body(Empty::new())?;
        let mut answer = self.client.clone().oneshot(Routed { target, request }).await?;
        orca::take(answer.headers_mut()).ok_or_else(|| "the answer tells no load".into())
    }
}

impl fmt::Debug for HttpLoadProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLoadProbe").field("path", &self.path).finish_non_exhaustive()
    }
}
