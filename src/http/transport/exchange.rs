use super::{Exchange, Failed, Held, connection::Connection, host::Host};
use crate::error::BoxError;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, client::conn::TrySendError};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

pin_project! {
    /// A request on a connection, until the head of its answer is there. By hand, as it is made for every request: the
    /// compiler's own would be three times as large.
    pub(super) struct Exchanging<F, B> {
        #[pin]
        sending: F,
        on: Option<(Connection<B>, Arc<Host<B>>)>,
        anew: Option<Exchange>,
    }
}

/// Sends `request` now.
pub(super) fn exchange<B>(
    host: Arc<Host<B>>,
    mut connection: Connection<B>,
    mut request: Request<B>,
) -> Exchanging<impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>>, B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    match connection {
        Connection::Http1(_) => host.address_http1(&mut request),
        Connection::Http2(_) => host.address_http2(&mut request),
    }
    let sending = connection.send(request);
    Exchanging { sending, on: Some((connection, host)), anew: None }
}

impl<F, B> Future for Exchanging<F, B>
where
    F: Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Output = Result<(Response<Incoming>, Option<Held>), Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(anew) = this.anew {
            return anew.as_mut().poll(cx);
        }
        let result = ready!(this.sending.poll(cx));
        let (connection, host) = this.on.take().expect("polled after it was ready");
        let mut failure = match result {
            Ok(response) => {
                let held = connection.answered(&response, host);
                return Poll::Ready(Ok((response, held)));
            }
            Err(failure) => failure,
        };
        let reused = connection.served();
        match failure.take_message() {
            // The server had closed the connection before anything was sent, as one does that closes those that are idle.
            // One that never served may lead to something that accepts and serves nobody.
            Some(request) if reused => this.anew.insert(Box::pin(host.exchange_anew(request))).as_mut().poll(cx),
            _ => Poll::Ready(Err(Failed::on_connection(failure.into_error(), reused))),
        }
    }
}
