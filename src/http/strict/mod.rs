//! What a server's HTTP parser lets pass and a proxy must not: see [`Strict`].

mod field;
mod rules;
mod scan;
mod switch;

use self::rules::{Offence, Rules};
pub use self::switch::Switch;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream of bytes of a connection to a server of HTTP/1.1, on which no request that is framed in two ways gets through.
///
/// Two servers that read the same bytes as different requests are what request smuggling lives on. hyper's own parser accepts
/// some forms of which it keeps only what it made of them: a line that ends in a bare LF, a `Content-Length` that is there
/// twice or stands beside a `Transfer-Encoding`, codings before `chunked`, a fragment in the target, no `Host`. This looks at the lines
/// of each head as they pass, and at those between the chunks of a body, finds where the next begins, and refuses what
/// [RFC 9112](https://www.rfc-editor.org/rfc/rfc9112) does not allow:
///
/// * in a head, hyper is given something it refuses instead of the end of that line: it answers 400 and closes;
/// * in a body, reading fails.
///
/// Nothing is copied but the beginning of a line of which the end is not there yet, and no body is looked at. A connection
/// that begins with the preface of HTTP/2, or that has [switched](Self::switch) to another protocol, passes as it is.
///
/// ```
/// use hyper_util::rt::{TokioExecutor, TokioIo};
/// use hyper_util::server::conn::auto;
/// use hyper_util::service::TowerToHyperService;
/// use tower::ServiceExt;
/// use tower_balancer::http::Strict;
///
/// # async fn serve(stream: tokio::net::TcpStream, app: axum::Router) {
/// let stream = Strict::new(stream);
/// let switch = stream.switch();
/// let service = app.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
///     request.extensions_mut().insert(switch.clone());
///     request
/// });
/// let (stream, service) = (TokioIo::new(stream), TowerToHyperService::new(service));
/// _ = auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(stream, service).await;
/// # }
/// ```
///
/// A line is kept until its end is there: the parser above has to bound how long a head may be, as hyper's does.
#[derive(Debug)]
pub struct Strict<I> {
    inner: I,
    rules: Rules,
    refused: Option<Refused>,
    switch: Switch,
}

/// What has yet to be given to the parser instead of what the client sent.
#[derive(Debug)]
enum Refused {
    InHead(&'static [u8]),
    InBody,
}

/// No parser takes this in a head, wherever in a line it stands, nor waits for more to say so.
const UNACCEPTABLE: &[u8] = b"\0\r\n\r\n";

impl<I> Strict<I> {
    /// Looks at what is read from `inner`, which is at its beginning.
    pub fn new(inner: I) -> Self {
        Self { inner, rules: Rules::new(), refused: None, switch: Switch::default() }
    }

    /// What it was made of.
    pub fn into_inner(self) -> I {
        self.inner
    }

    /// The same. What is read from it directly is not looked at, so nothing more may come of it.
    pub fn get_mut(&mut self) -> &mut I {
        &mut self.inner
    }

    /// For the requests on it, to say that one of them was answered with 101.
    pub fn switch(&self) -> Switch {
        self.switch.clone()
    }

    /// Whether the client has begun a body and has more of it to send.
    pub fn is_in_body(&self) -> bool {
        self.rules.is_in_body()
    }

    /// How many heads have come, where the client has yet to send another, or the rest of one; `None` in a body, over HTTP/2, and
    /// where the connection has switched.
    pub fn awaits_head(&self) -> Option<u32> {
        self.rules.awaits_head()
    }

    /// Whether the client may go on sending what it has begun, or what was refused, whoever reads it.
    pub fn is_in_request(&self) -> bool {
        self.refused.is_some() || self.rules.is_in_request()
    }

    /// How many bytes have come of a request line of which the end has not.
    pub fn begun_request_line(&self) -> usize {
        if self.switch.has_switched() { 0 } else { self.rules.begun_request_line() }
    }

    /// Whether some of the head that is awaited has come, or it is the first.
    pub fn has_begun_head(&self) -> bool {
        self.rules.has_begun_head()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Strict<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rules.may_switch() && this.switch.has_switched() {
            this.rules.switched();
        }
        if this.refused.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let Err(Offence { at, in_head }) = this.rules.look_at(&buf.filled()[before..]) else {
                return Poll::Ready(Ok(()));
            };
            this.refused = Some(if in_head { Refused::InHead(UNACCEPTABLE) } else { Refused::InBody });
            buf.set_filled(before + at);
            // To a reader, nothing read is the end.
            if at > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        match &mut this.refused {
            Some(Refused::InHead(left)) => {
                let (now, later) = left.split_at(left.len().min(buf.remaining()));
                buf.put_slice(now);
                *left = later;
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "malformed chunked body"))),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Strict<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
