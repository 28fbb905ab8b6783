//! Points in time as operators read them.

use std::time::{Duration, Instant, SystemTime};
use tokio::time;

/// What the clock on the wall showed when this process began: from there on time runs evenly, so that one moment has one
/// name, whenever it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    wall: SystemTime,
}

impl Clock {
    pub fn new() -> Self {
        Self { began: now(), wall: SystemTime::now() }
    }

    /// By RFC 3339, in UTC: `2026-11-21T14:00:00.000Z`.
    pub fn name(&self, moment: Instant) -> String {
        let before = self.began.saturating_duration_since(moment);
        let wall = self.wall + moment.saturating_duration_since(self.began);
        humantime::format_rfc3339_millis(wall.checked_sub(before).unwrap_or(wall)).to_string()
    }

    /// When this process began.
    pub fn began(&self) -> String {
        self.name(self.began)
    }
}

pub fn now() -> Instant {
    time::Instant::now().into_std()
}

/// To a thousandth, as a number of seconds.
pub fn seconds(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e3).round() / 1e3
}
