//! How often clients have met a limit.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a client met. Those with a key in the configuration have its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Connections,
    HeadTime,
    HeadSize,
    Idle,
    Stall,
    PendingResets,
    ProvokedResets,
    Frames,
    Abandoned,
    Ping,
}

impl Limit {
    pub const ALL: [Self; 10] = [
        Self::Connections,
        Self::HeadTime,
        Self::HeadSize,
        Self::Idle,
        Self::Stall,
        Self::PendingResets,
        Self::ProvokedResets,
        Self::Frames,
        Self::Abandoned,
        Self::Ping,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::HeadTime => "header_read_timeout",
            Self::HeadSize => "max_header_bytes",
            Self::Idle => "idle_timeout",
            Self::Stall => "stall",
            Self::PendingResets => "pending_resets",
            Self::ProvokedResets => "provoked_resets",
            Self::Frames => "frames",
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

    /// A connection has ended with `error`: where that was a limit of the server itself, only this tells of it.
    pub fn ended_with(&self, error: &(dyn Error + 'static)) {
        let causes = || std::iter::successors(Some(error), |&error| error.source());
        if let Some(error) = causes().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            if error.is_parse_too_large() {
                self.one(Limit::HeadSize);
            } else if error.is_parse() {
                self.0.malformed.fetch_add(1, Ordering::Relaxed);
            } else if error.is_timeout() {
                // The stream sees to all others.
                self.one(Limit::Ping);
            }
        }
        // What the server of HTTP/2 has against a client it says in words only, and to the client as well.
        let words = causes().last().map(ToString::to_string).unwrap_or_default();
        let said = |(reason, _): &&(&str, Limit)| words.contains(reason);
        if let Some((_, limit)) = REASONS.iter().find(said) {
            self.one(*limit);
        }
    }
}

const REASONS: [(&str, Limit); 4] = [
    ("too_many_resets", Limit::PendingResets),
    ("too_many_internal_resets", Limit::ProvokedResets),
    ("too_many_continuations", Limit::Frames),
    ("too_many_data_frames", Limit::Frames),
];
