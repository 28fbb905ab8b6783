//! How often clients have met a limit.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a client met. Those with a key in the configuration have its name.
///
/// Nobody hears of what the server of HTTP/2 sees to by itself without ending the connection: a stream beyond their number, which is
/// refused, and a header list that is too large, but not four times so, which is answered with 431. Both are in [`Self::Flood`] where
/// they come to an end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Connections,
    HeadTime,
    HeadSize,
    Headers,
    Idle,
    Stall,
    /// Resets, or frames without end, on a connection over HTTP/2: `pending_resets`, `provoked_resets` and limits of the
    /// server itself, which tells the client which it was, and us only that it was one of them.
    Flood,
    Abandoned,
    Ping,
}

impl Limit {
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::HeadTime,
        Self::HeadSize,
        Self::Headers,
        Self::Idle,
        Self::Stall,
        Self::Flood,
        Self::Abandoned,
        Self::Ping,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::HeadTime => "header_read_timeout",
            Self::HeadSize => "max_header_bytes",
            Self::Headers => "max_headers",
            Self::Idle => "idle_timeout",
            Self::Stall => "stall",
            Self::Flood => "flood",
            Self::Abandoned => "abandoned",
            Self::Ping => "ping",
        }
    }
}

/// The counts of all of them. A clone counts together with it.
#[derive(Clone, Debug, Default)]
pub struct Fired(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    limits: [AtomicU64; Limit::ALL.len()],
    malformed: AtomicU64,
    handshakes: AtomicU64,
}

impl Fired {
    pub fn one(&self, limit: Limit) {
        self.0.limits[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, limit: Limit) -> u64 {
        self.0.limits[limit as usize].load(Ordering::Relaxed)
    }

    /// A handshake of TLS came to nothing.
    pub fn no_handshake(&self) {
        self.0.handshakes.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed_handshakes(&self) -> u64 {
        self.0.handshakes.load(Ordering::Relaxed)
    }

    /// Connections that were closed on a client that spoke no HTTP.
    pub fn malformed(&self) -> u64 {
        self.0.malformed.load(Ordering::Relaxed)
    }

    fn not_understood(&self) {
        self.0.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended with `error`: where that was a limit of the server itself, only this tells of it.
    pub fn ended_with(&self, error: &(dyn Error + 'static)) {
        let causes = || std::iter::successors(Some(error), |&error| error.source());
        if let Some(error) = causes().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            if error.is_parse_too_large() {
                self.one(Limit::HeadSize);
            } else if error.is_parse() {
                self.not_understood();
            } else if error.is_timeout() {
                // The stream sees to all others.
                self.one(Limit::Ping);
            }
        }
        let over_http2 = causes().find_map(|cause| cause.downcast_ref::<h2::Error>());
        match over_http2.filter(|error| error.is_library()).and_then(h2::Error::reason) {
            Some(h2::Reason::ENHANCE_YOUR_CALM) => self.one(Limit::Flood),
            Some(_) => self.not_understood(),
            None => {}
        }
    }
}
