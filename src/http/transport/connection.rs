use super::{host::Host, http1, http2};
use futures_util::future::Either;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::{body::Incoming, client::conn::TrySendError};
use std::{fmt, sync::Arc};

/// A connection, for one request.
pub(super) enum Connection<B> {
    Http1(Box<http1::Connection<B>>),
    Http2(http2::Lent<B>),
}

impl<B> Connection<B>
where
    B: Body + Send + 'static,
{
    pub(super) fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> + use<B> {
        match self {
            Self::Http1(connection) => Either::Left(connection.sender.try_send_request(request)),
            Self::Http2(lent) => Either::Right(lent.sender.try_send_request(request)),
        }
    }

    /// Whether it has brought an answer before.
    pub(super) fn served(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.served,
            Self::Http2(lent) => lent.stream.served(),
        }
    }

    /// What the answer's body has to hold, where there is one.
    pub(super) fn answered(self, response: &Response<Incoming>, home: Arc<Host<B>>) -> Option<Held> {
        let held = match self {
            Self::Http1(mut connection) => {
                connection.served = true;
                // To a server of HTTP/1.0 hyper would send the next body without a word on its length, and so not at all.
                // One that has switched is no connection for requests any more.
                let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                connection.home = (response.version() != Version::HTTP_10 && !switched).then_some(home);
                Held::Connection(Loan(Some(connection)))
            }
            Self::Http2(http2::Lent { stream, .. }) => {
                stream.serves();
                Held::Stream(stream)
            }
        };
        (!response.body().is_end_stream()).then_some(held)
    }
}

/// What the body of an answer holds of the transport until it is at its end. Then others may have it.
pub(in crate::http) enum Held {
    Connection(#[expect(dead_code, reason = "dropped when it is time")] Loan),
    Stream(#[expect(dead_code, reason = "dropped when it is time")] http2::Stream),
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// A connection that is given back when this is dropped. If the body is not at its end then, hyper closes the connection,
/// which has no other way to say that no more is wanted, unless the rest is there already; nobody gets it before.
pub(in crate::http) struct Loan(Option<Box<dyn GiveBack + Send + Sync>>);

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.give_back();
        }
    }
}

/// A connection of which the type of its requests' bodies is forgotten: the body of an answer has no use for it.
trait GiveBack {
    fn give_back(self: Box<Self>);
}

impl<B> GiveBack for http1::Connection<B> {
    fn give_back(mut self: Box<Self>) {
        if let Some(home) = self.home.take() {
            home.keep(self);
        }
    }
}
