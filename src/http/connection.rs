use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::TokioIo,
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::net::TcpStream;
use tower::util::MapResponse;

/// Opens connections, each with a mark that tells whether it has served.
pub(super) type Connector = MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> Marked>;

pub(super) fn connector(tcp: HttpConnector) -> Connector {
    MapResponse::new(tcp, |stream| Marked { stream, served: Served::default() })
}

/// A connection with its mark.
#[derive(Debug)]
pub(super) struct Marked {
    stream: TokioIo<TcpStream>,
    served: Served,
}

/// Whether a connection has brought an answer before.
///
/// A server that closes an idle connection may do so just when a request is put on it. That is no sign that the server
/// is gone; a connection that breaks before it ever served is.
#[derive(Clone, Debug, Default)]
pub(super) struct Served(Arc<AtomicBool>);

impl Served {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the connection on which `error` happened had served before.
    pub(super) fn before(error: &legacy::Error) -> bool {
        let mut extensions = http::Extensions::new();
        if let Some(connection) = error.connect_info() {
            connection.get_extras(&mut extensions);
        }
        extensions.get::<Self>().is_some_and(|served| served.0.load(Ordering::Relaxed))
    }
}

impl Connection for Marked {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.served.clone())
    }
}

impl Read for Marked {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Marked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
