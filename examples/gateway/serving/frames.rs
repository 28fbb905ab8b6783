//! Frames of HTTP/2 that bring nothing. To send one costs a client nine bytes; to read it, to answer it and to be kept by it
//! from everybody else costs more (CVE-2019-9511 to 9518).

use super::trailers::Trailers;
use std::{io, time::Duration};
use tokio::time::Instant;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

/// What one costs, in bytes that would have to pass to make up for it: those that take or give a request or its content.
/// More than the 17 bytes of the answer to a ping.
const COST: u32 = 32;

/// A window is opened for what was sent, and by some clients for each frame of it, twice: so each goes with so many bytes,
/// of which a frame has ten at least.
const OPENED_FOR: u32 = 5;

/// So far back it counts what was sent: who was sent much may not save it up for a flood.
const MOST_SENT: u32 = 1 << 20;

/// A stream that was reset had a request on it; and who only resets is cut off for that.
const RESET_COST: u32 = 4;

/// After so long all is forgiven: who only keeps a quiet connection alive does no harm.
const WINDOW: Duration = Duration::from_secs(60);

/// What a client has sent on a connection over HTTP/2 that brought nothing, against what has passed otherwise.
#[derive(Debug)]
pub struct Frames {
    expects: Expects,
    owes: u32,
    /// How much it may.
    most: u32,
    /// Bytes that were sent, and for which no window was opened yet.
    sent: u32,
    since: Option<Instant>,
    trailers: Trailers,
}

#[derive(Debug)]
enum Expects {
    /// What is left of it.
    Preface(&'static [u8]),
    Head([u8; HEAD], usize),
    Payload(usize),
    /// It is not HTTP/2.
    Anything,
}

impl Frames {
    /// `most` frames may bring nothing in a minute.
    pub fn new(most: u32) -> Self {
        let most = most.saturating_mul(COST);
        let trailers = Trailers::default();
        Self { expects: Expects::Preface(PREFACE), owes: 0, most, sent: 0, since: None, trailers }
    }

    /// How many bytes belong together: what is left of a frame, or of the preface. `None` where this is not HTTP/2.
    pub fn left(&self) -> Option<usize> {
        match self.expects {
            Expects::Preface(left) => Some(left.len()),
            Expects::Head(..) => Some(0),
            Expects::Payload(left) => Some(left),
            Expects::Anything => None,
        }
    }

    /// Looks at what was read.
    ///
    /// # Errors
    ///
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) where that is too much of nothing, and
    /// [`InvalidData`](io::ErrorKind::InvalidData) where it is malformed.
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if matches!(self.expects, Expects::Anything) {
            return Ok(());
        }
        self.look_at(bytes)?;
        if self.owes > self.most { self.call_in() } else { Ok(()) }
    }

    /// So many bytes were sent.
    #[inline]
    pub fn wrote(&mut self, bytes: usize) {
        let bytes = bytes.try_into().unwrap_or(u32::MAX);
        self.owes = self.owes.saturating_sub(bytes);
        self.sent = self.sent.saturating_add(bytes).min(MOST_SENT);
    }

    fn look_at(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match &mut self.expects {
                Expects::Preface(left) => {
                    let length = left.len().min(bytes.len());
                    if bytes[..length] != left[..length] {
                        self.expects = Expects::Anything;
                        return Ok(());
                    }
                    bytes = &bytes[length..];
                    *left = &left[length..];
                    if left.is_empty() {
                        self.expects = Expects::Head([0; HEAD], 0);
                    }
                }
                Expects::Head(head, filled) => {
                    let length = (HEAD - *filled).min(bytes.len());
                    head[*filled..*filled + length].copy_from_slice(&bytes[..length]);
                    bytes = &bytes[length..];
                    *filled += length;
                    if *filled == HEAD {
                        let head = *head;
                        self.frame(head);
                    }
                }
                Expects::Payload(left) => {
                    let length = (*left).min(bytes.len());
                    if self.trailers.are_malformed(&bytes[..length]) {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "a pseudo-header in trailers"));
                    }
                    bytes = &bytes[length..];
                    *left -= length;
                    if *left == 0 {
                        self.expects = Expects::Head([0; HEAD], 0);
                    }
                }
                Expects::Anything => return Ok(()),
            }
        }
        Ok(())
    }

    /// RFC 9113, section 4.1.
    fn frame(&mut self, [high, middle, low, kind, flags, stream @ ..]: [u8; HEAD]) {
        const END_STREAM: u8 = 1;
        let length = u32::from_be_bytes([0, high, middle, low]);
        // The first bit is reserved.
        self.trailers.begin(kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff);
        match kind {
            // DATA, HEADERS and CONTINUATION.
            0 | 1 | 9 if length > 0 => self.owes = self.owes.saturating_sub(length),
            0 if flags & END_STREAM != 0 => {}
            // RST_STREAM.
            3 => self.owes = self.owes.saturating_add(RESET_COST),
            // WINDOW_UPDATE.
            8 if self.sent >= OPENED_FOR => self.sent -= OPENED_FOR,
            _ => self.owes = self.owes.saturating_add(COST),
        }
        self.expects = if length == 0 { Expects::Head([0; HEAD], 0) } else { Expects::Payload(length as usize) };
        if self.owes > 0 && self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// A clock is looked at only here.
    fn call_in(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.since.replace(now).is_some_and(|since| now - since < WINDOW) {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the client sends frames that bring nothing"));
        }
        self.owes = 0;
        Ok(())
    }
}
