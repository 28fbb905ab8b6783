//! `Strict`: what passes does not depend on how it arrives, is what came, and can be read in one way.

use super::now;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tower_balancer::http::Strict;

/// What it gives a parser in place of the end of a head that is refused.
const UNACCEPTABLE: &[u8] = b"\0\r\n\r\n";

/// Bytes that arrive a few at a time.
pub struct Pieces<'a>(pub &'a [u8], pub usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.1.min(self.0.len()).min(buf.remaining());
        let (piece, rest) = self.0.split_at(length);
        buf.put_slice(piece);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What passes, and whether reading failed then.
async fn passes(data: &[u8], size: usize) -> (Vec<u8>, bool) {
    let mut strict = Strict::new(Pieces(data, size));
    let (mut passed, mut buffer) = (Vec::new(), [0; 512]);
    loop {
        match strict.read(&mut buffer).await {
            Ok(0) => return (passed, false),
            Ok(length) => passed.extend_from_slice(&buffer[..length]),
            Err(_) => return (passed, true),
        }
    }
}

pub fn check(data: &[u8]) {
    now(one(data));
}

async fn one(data: &[u8]) {
    let (passed, broke) = passes(data, usize::MAX).await;
    for size in [1, 2, 7, 64] {
        let (again, broke_again) = passes(data, size).await;
        assert_eq!((&passed, broke), (&again, broke_again), "in pieces of {size}");
    }
    let refused = passed.strip_suffix(UNACCEPTABLE).filter(|_| passed != data);
    let whole = refused.unwrap_or(&passed);
    assert!(data.starts_with(whole), "it is not what came");
    if refused.is_none() && !broke {
        assert_eq!(passed, data, "something is missing");
        first_head(data);
    }
}

/// By the plainest means there are: each line ends in CRLF, and nothing that frames a message is there twice. A CR within a
/// line is refused by the parser above, with much else.
fn first_head(data: &[u8]) {
    let Some(end) = data.windows(4).position(|end| end == b"\r\n\r\n") else { return };
    let head = data[..end].trim_ascii_start();
    if head.starts_with(b"PRI * HTTP/2.0") || head.is_empty() {
        return;
    }
    let lines: Vec<_> = head.split(|&byte| byte == b'\n').collect();
    let (_, others) = lines.split_last().expect("a split has a part");
    assert!(others.iter().all(|line| line.ends_with(b"\r")), "a line ends without CRLF");
    let count = |name: &[u8]| {
        let is = |line: &&&[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
        lines[1..].iter().filter(is).count()
    };
    assert!(count(b"content-length:") + count(b"transfer-encoding:") <= 1, "framed twice");
    assert!(count(b"host:") <= 1, "two hosts");
}
