use pin_project_lite::pin_project;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Up to so many bytes are put together: a head and a short body. To copy more costs more than it saves.
const SHORT: usize = 2048;

pin_project! {
    /// A stream to which a short head and a short body are written as one piece.
    ///
    /// HTTP servers and clients hand over heads and bodies in pieces, for the system to gather. For short ones that costs
    /// more than to copy them: half a microsecond for each message, where all of it takes ten. Long ones are gathered.
    ///
    /// ```
    /// use tokio::io::AsyncWriteExt;
    /// use tower_balancer::http::Coalesce;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (near, _far) = tokio::io::duplex(64);
    /// let mut stream = Coalesce::new(near);
    /// stream.write_all(b"ping").await
    /// # }
    /// ```
    #[derive(Clone, Copy, Debug)]
    pub struct Coalesce<S> {
        #[pin]
        inner: S,
    }
}

impl<S> Coalesce<S> {
    /// Writes to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }

    /// What it writes to.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The same, back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: AsyncWrite> AsyncWrite for Coalesce<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = self.project().inner;
        if let [whole] = bufs {
            return inner.poll_write(cx, whole);
        }
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length > SHORT {
            return inner.poll_write_vectored(cx, bufs);
        }
        let (mut short, mut at) = ([0; SHORT], 0);
        for buf in bufs {
            short[at..at + buf.len()].copy_from_slice(buf);
            at += buf.len();
        }
        inner.poll_write(cx, &short[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}

impl<S: AsyncRead> AsyncRead for Coalesce<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Notes in how many pieces what came.
    #[derive(Default)]
    struct Pieces(Vec<Vec<usize>>);

    impl AsyncWrite for Pieces {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(vec![buf.len()]);
            Poll::Ready(Ok(buf.len()))
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bufs.iter().map(|buf| buf.len()).collect());
            Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_short_goes_as_one_piece_and_what_is_long_as_it_came() {
        for (head, body, pieces) in [
            (100, 20, vec![120]),
            (100, SHORT - 100, vec![SHORT]),
            (100, SHORT - 99, vec![100, SHORT - 99]),
            (100, 1_000_000, vec![100, 1_000_000]),
        ] {
            let mut stream = Coalesce::new(Pieces::default());
            let (head, body) = (vec![b'h'; head], vec![b'b'; body]);
            let written = stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(&body)]).await.unwrap();
            assert_eq!((written, stream.into_inner().0), (head.len() + body.len(), vec![pieces]));
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_and_nothing_changes_places() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut stream = Coalesce::new(near);
        let parts: Vec<Vec<u8>> = (0..20).map(|part| vec![part; usize::from(part) * 10]).collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let written = stream.write_vectored(&slices).await.unwrap();
        let mut read = vec![0; written];
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut read).await.unwrap();
        assert_eq!(read, parts.concat());
    }
}
