//! Turns: how much a connection has done before another is served.
//!
//! The runtime lets a task do some 128 operations in a row, whatever they cost. For us one of them may be a read that brings
//! thousands of small frames, or a connection that is accepted and has a life of its own ahead of it; and whoever asks for
//! one small thing waits until all of that is through. So these cost more.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::coop::{has_budget_remaining, poll_proceed},
};

/// Bytes from a client that cost as much as one operation. A turn is over with 16 KiB.
const BYTES: usize = 128;

/// What a new connection costs: a turn, so that those that are there already go on.
const ACCEPTED: usize = 128;

/// Frames that are read at a time, in bytes: they can be four hundred, or headers that are unpacked to a hundred times as much.
const FRAMES: usize = 4 * 1024;

/// Reads no more frames than are done quickly, after what is `left` of the one that has begun.
pub fn read_frames(
    stream: Pin<&mut impl AsyncRead>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    left: usize,
) -> Poll<io::Result<()>> {
    let most = left + FRAMES;
    if buf.remaining() <= most {
        return stream.poll_read(cx, buf);
    }
    let mut some = ReadBuf::new(buf.initialize_unfilled_to(most));
    let read = stream.poll_read(cx, &mut some);
    let filled = some.filled().len();
    buf.advance(filled);
    read
}

/// So many bytes were read.
pub fn read(cx: &mut Context<'_>, bytes: usize) {
    spend(cx, bytes / BYTES);
}

pub fn accepted(cx: &mut Context<'_>) {
    spend(cx, ACCEPTED);
}

/// As much of it as is left: what is asked for next waits for the next turn.
fn spend(cx: &mut Context<'_>, operations: usize) {
    for _ in 0..operations {
        if !has_budget_remaining() {
            return;
        }
        if let Poll::Ready(operation) = poll_proceed(cx) {
            operation.made_progress();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn is_over_with(spend: impl Fn(&mut Context<'_>)) -> bool {
        poll_fn(|cx| {
            spend(cx);
            Poll::Ready(!has_budget_remaining())
        })
        .await
    }

    #[tokio::test]
    async fn a_turn_is_over_with_16_kib_or_a_connection_and_not_with_a_request() {
        assert!(tokio::spawn(is_over_with(|cx| read(cx, 16 * 1024))).await.unwrap());
        assert!(tokio::spawn(is_over_with(accepted)).await.unwrap());
        assert!(!tokio::spawn(is_over_with(|cx| read(cx, 1024))).await.unwrap());
    }

    #[tokio::test]
    async fn of_many_frames_a_few_are_read_at_a_time_and_a_large_one_whole() {
        let much = vec![7; 100_000];
        for (left, expected) in [(0, FRAMES), (50_000, 50_000 + FRAMES), (usize::MAX / 2, 100_000)] {
            let mut bytes = vec![0; 100_000];
            let mut buf = ReadBuf::new(&mut bytes);
            poll_fn(|cx| read_frames(Pin::new(&mut &*much), cx, &mut buf, left)).await.unwrap();
            assert_eq!((buf.filled().len(), buf.filled()[expected - 1]), (expected, 7));
        }
    }
}
