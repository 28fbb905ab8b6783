//! How long a client is waited for in the middle of something, on its stream of bytes.

use super::{
    credit::Credit,
    doze,
    fired::{Fired, Limit},
    frames::Frames,
    limits::Limits,
    parting::{Parting, TOO_LATE, TOO_LONG},
    signs::Signs,
    turns::{Turn, Turns},
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tower_balancer::http::{Strict, Switch};

/// As long as the preface of HTTP/2 and the head of the frame that has to follow it. Until so much is there, it is not even
/// settled what the client speaks, and nobody else bounds how long that takes.
const OPENING: usize = 33;

/// A request line that is longer has a target that is too long for anybody, whatever the method.
const REQUEST_LINE: usize = 16 * 1024;

/// A client's stream of bytes, which breaks where the client does not begin, takes too long over a head or to ask again, sends
/// too little in the middle of a request's body, sends frames that bring nothing, or takes too little of what is sent. It has
/// one of the places for connections, also where it has become a tunnel.
pub struct Patient<I> {
    inner: Strict<I>,
    frames: Frames,
    turn: Turn,
    /// For the body that is read, and for all that is written.
    upload: Credit,
    download: Credit,
    head_time: Duration,
    idle: Duration,
    /// What of it has not come yet.
    opening: usize,
    /// What was read for last, and since when.
    awaited: Option<(Awaited, Instant)>,
    /// Rings when a read has waited for long, or earlier: to move it for each request would cost more than to look.
    alarm: Option<Pin<Box<Sleep>>>,
    /// What the client said first when it had dozed.
    first: Option<u8>,
    /// As soon as it is its turn.
    is_let_go: bool,
    /// With these words, or from one who is in the middle of a request.
    parting: Option<Box<Parting>>,
    /// How to end it where it has not come to its end.
    break_off: Option<fn(&I)>,
    /// Since a write waits, and when it has waited for too long.
    writing: Option<(Instant, Pin<Box<Sleep>>)>,
    signs: Arc<Signs>,
    fired: Fired,
    _place: OwnedSemaphorePermit,
}

/// What a client is waited for.
#[derive(Clone, Copy, PartialEq)]
enum Awaited {
    Opening,
    /// What is left of the one after so many.
    Head(u32),
    /// The beginning of that one.
    Request(u32),
    Body,
}

impl<I> Patient<I> {
    pub fn new(stream: I, limits: &Limits, turns: Turns, place: OwnedSemaphorePermit) -> Self {
        let Limits { stall, min_rate, head_time, idle, empty_frames, .. } = *limits;
        let credit = Credit::new(stall, min_rate);
        Self {
            inner: Strict::new(stream),
            frames: Frames::new(empty_frames),
            turn: Turn::new(turns),
            upload: credit,
            download: credit,
            head_time,
            idle,
            opening: OPENING,
            awaited: None,
            alarm: None,
            first: None,
            is_let_go: false,
            parting: None,
            break_off: None,
            writing: None,
            signs: Arc::default(),
            fired: limits.fired.clone(),
            _place: place,
        }
    }

    /// To a client of HTTP/1.0 the end of the connection is the end of the answer: `break_off` shows that it is not, where nobody
    /// says that it is.
    pub fn broken_off_by(mut self, break_off: fn(&I)) -> Self {
        self.break_off = Some(break_off);
        self
    }

    /// For the requests on it, to say that one of them was answered with 101.
    pub fn switch(&self) -> Switch {
        self.inner.switch()
    }

    fn dozes(&self) -> bool {
        self.signs.dozes.load(Ordering::Relaxed)
    }

    pub fn signs(&self) -> Arc<Signs> {
        Arc::clone(&self.signs)
    }

    /// What is waited for now, and how long.
    fn awaits(&self) -> Option<(Awaited, Duration)> {
        match self.inner.awaits_head() {
            // It begins with the first head, however short, or with HTTP/2.
            Some(0) => Some((Awaited::Opening, self.head_time)),
            Some(heads) if self.inner.has_begun_head() => Some((Awaited::Head(heads), self.head_time)),
            Some(heads) => Some((Awaited::Request(heads), self.idle)),
            None if self.inner.is_in_body() => Some((Awaited::Body, self.upload.left())),
            None => (self.opening > 0).then_some((Awaited::Opening, self.head_time)),
        }
    }

    /// Whether a read that waits has waited for too long. Who has begun a head is told so.
    fn is_out_of_patience(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((awaits, mut patience)) = self.awaits() else { return false };
        // The next body is another.
        if awaits != Awaited::Body {
            self.upload.renew();
        }
        let since = match self.awaited {
            Some((awaited, since)) if awaited == awaits => since,
            _ => self.awaited.insert((awaits, Instant::now())).1,
        };
        // Not before all of the last answer is taken: the server has the rest of it.
        let may_doze = matches!(awaits, Awaited::Request(_)) && self.writing.is_none() && !self.dozes();
        let will_doze = may_doze && patience > doze::AFTER;
        if will_doze {
            patience = doze::AFTER;
        }
        let until = since + patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if alarm.deadline() > until {
            alarm.as_mut().reset(until);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                if will_doze {
                    self.signs.dozes.store(true, Ordering::Relaxed);
                    return false;
                }
                self.fired.one(match awaits {
                    Awaited::Opening | Awaited::Head(_) => Limit::HeadTime,
                    Awaited::Request(_) => Limit::Idle,
                    Awaited::Body => Limit::Stall,
                });
                self.is_let_go = true;
                // Browsers connect before they know what for, and expect no answer to nothing.
                if matches!(awaits, Awaited::Opening | Awaited::Head(_)) && self.frames.left().is_none() {
                    self.tell(TOO_LATE);
                }
                return true;
            }
            alarm.as_mut().reset(until);
        }
        false
    }

    /// The last, unless there is an answer that still has to be taken: nobody listens, and it would come in the middle of that.
    fn tell(&mut self, words: &'static [u8]) {
        if self.writing.is_none() {
            self.parting = Some(Box::new(Parting::with(words)));
            self.break_off = None;
        }
    }

    /// Where it waits for too long, it has failed.
    fn wrote<T: Copy>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(T) -> usize,
    ) -> Poll<io::Result<T>> {
        let Self { writing, signs, frames, turn, download, fired, .. } = self;
        if let Poll::Ready(result) = &written {
            let waited = writing.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
            let bytes = result.as_ref().map_or(0, |written| bytes(*written));
            download.spend(waited, bytes);
            frames.wrote(bytes);
            turn.wrote(bytes);
            if bytes > 0 {
                signs.taken.store(true, Ordering::Relaxed);
            }
            return written;
        }
        let (_, alarm) = writing.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(download.left()))));
        if alarm.as_mut().poll(cx).is_pending() {
            return written;
        }
        fired.one(Limit::Stall);
        timed_out()
    }
}

fn timed_out<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(stood_still()))
}

pub fn stood_still() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client stood still")
}

impl<I: AsyncRead + AsyncWrite + Unpin> Patient<I> {
    /// Waits for a client that dozes to say something, which the next read brings. Returns whether it has: else it is over.
    pub fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        ready!(self.poll_some(cx, &mut byte))?;
        self.signs.dozes.store(false, Ordering::Relaxed);
        self.first = byte.filled().first().copied();
        Poll::Ready(Ok(self.first.is_some()))
    }

    fn poll_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // What came before it was looked at when more is asked for.
        if !self.is_let_go && self.inner.begun_request_line() >= REQUEST_LINE {
            self.fired.one(Limit::HeadSize);
            self.is_let_go = true;
            self.tell(TOO_LONG);
        }
        if self.is_let_go {
            return self.poll_let_go(cx);
        }
        let before = buf.filled().len();
        let read = self.turn.poll_read(Pin::new(&mut self.inner), cx, buf, self.frames.left());
        if read.is_pending() {
            let is_let_go = !self.turn.is_over() && self.is_out_of_patience(cx);
            return if is_let_go { self.poll_let_go(cx) } else { read };
        }
        if let Err(error) = self.frames.read(&buf.filled()[before..]) {
            if error.kind() == io::ErrorKind::QuotaExceeded {
                self.fired.one(Limit::Flood);
            }
            return Poll::Ready(Err(error));
        }
        let bytes = buf.filled().len() - before;
        self.signs.said.store(true, Ordering::Relaxed);
        self.opening = self.opening.saturating_sub(bytes);
        // A byte now and then is no beginning and no head, but it is something of a body.
        if let Some((Awaited::Body, since)) = self.awaited {
            self.upload.spend(since.elapsed(), bytes);
            self.awaited = None;
        }
        read
    }

    /// Fails, in its turn: there may be thousands at once.
    fn poll_let_go(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.turn.poll_next(cx));
        if let Some(parting) = &mut self.parting {
            ready!(parting.poll(self.inner.get_mut(), cx));
        }
        timed_out()
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Patient<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        // Whoever reads here is about to be dropped, and whatever comes now is for the next.
        if this.dozes() { Poll::Pending } else { this.poll_some(cx, buf) }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // That others are served first is not the client's delay.
        ready!(this.turn.poll_write(cx));
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.wrote(cx, written, |bytes| bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.turn.poll_write(cx));
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.wrote(cx, written, |bytes| bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    // What TLS has taken may still have to be taken by the client.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.wrote(cx, flushed, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.break_off = None;
        if this.parting.is_some() || this.inner.is_in_request() {
            let parting = this.parting.get_or_insert_with(|| Box::new(Parting::with(b"")));
            return parting.poll(this.inner.get_mut(), cx).map(Ok);
        }
        let shut = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.wrote(cx, shut, |()| 0)
    }
}

impl<I> Drop for Patient<I> {
    fn drop(&mut self) {
        if let Some(break_off) = self.break_off
            && self.signs.is_old.load(Ordering::Relaxed)
        {
            break_off(self.inner.get_mut());
        }
    }
}
