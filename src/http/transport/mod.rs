//! Connections to the backends: opened when they are needed, kept, and lent to one request at a time, or over HTTP/2 to as
//! many as they have streams for.
//!
//! Over HTTP/1.1 nobody waits for a connection that another has: where none is free, one is opened. No task is spawned but
//! those that drive the connections. A request that is given up while it connects gives up the connecting as well, unless
//! others wait for the same.
//!
//! Over TLS the backend may have the choice between the two: then what it says in the handshake is what is spoken on that
//! connection, and a request takes its form when it is settled on which it goes.

mod connection;
mod error;
mod exchange;
mod host;
mod hosts;
mod http1;
mod http2;

pub(super) use self::{
    connection::Held,
    error::{ConnectError, Failed},
};
use self::{exchange::exchange, hosts::Hosts};
#[cfg(feature = "tls")]
use crate::http::TlsConfig;
use crate::{error::BoxError, http::protocol::Protocol};
use http::{Request, Response, uri::Scheme};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use std::{pin::Pin, sync::Arc, time::Duration};

/// An answer and the connection on which the rest of it comes, or why there is none. One allocation: what hyper gives back
/// for a request is a future without a name.
pub(super) type Exchange = Pin<Box<dyn Future<Output = Result<(Response<Incoming>, Option<Held>), Failed>> + Send>>;

/// There is no backend without a name.
const NOT_HTTP: &str = "the URI of the request is not of the form http://host/path, or https:// where TLS is built in";

/// How connections are opened, and how long they are kept.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) connector: HttpConnector,
    pub(super) protocol: Protocol,
    #[cfg(feature = "tls")]
    pub(super) tls: TlsConfig,
    /// The connector knows it, but means neither the name that has to be looked up before nor TLS.
    pub(super) connect_timeout: Duration,
    pub(super) max_idle: usize,
    pub(super) idle_timeout: Duration,
}

/// The connections to all backends.
pub(super) struct Transport<B> {
    plain: Hosts<B>,
    #[cfg(feature = "tls")]
    encrypted: Hosts<B>,
}

impl<B> Transport<B> {
    pub(super) fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self {
            #[cfg(feature = "tls")]
            encrypted: Hosts::new(Scheme::HTTPS, Arc::clone(&settings)),
            plain: Hosts::new(Scheme::HTTP, settings),
        }
    }

    fn hosts(&self, scheme: Option<&Scheme>) -> Option<&Hosts<B>> {
        match scheme {
            Some(scheme) if *scheme == Scheme::HTTP => Some(&self.plain),
            #[cfg(feature = "tls")]
            Some(scheme) if *scheme == Scheme::HTTPS => Some(&self.encrypted),
            _ => None,
        }
    }
}

impl<B> Transport<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Sends `request` to the authority in its URI: at once where a connection is free, else when the future is polled.
    pub(super) fn send(&self, request: Request<B>) -> Exchange {
        let uri = request.uri();
        let (Some(authority), Some(hosts)) = (uri.authority(), self.hosts(uri.scheme())) else {
            return Box::pin(std::future::ready(Err(ConnectError::new(NOT_HTTP).into())));
        };
        let host = hosts.of(authority);
        match host.free(&request) {
            Some(connection) => Box::pin(exchange(host, connection, request)),
            None => {
                hosts.sweep();
                Box::pin(host.exchange_anew(request))
            }
        }
    }
}
