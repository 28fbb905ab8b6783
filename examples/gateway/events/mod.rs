//! What has happened lately: told as it happens, kept for a while, read by whoever asks.
//!
//! ```text
//!  a pool's changes ── watch.rs ──▶ ┐
//!  reloads, operators ───────────▶ Journal ── Reader ──▶ GET /events
//!                                  journal.rs            each at its own pace
//! ```
//!
//! Who tells waits for nobody, and who reads holds nothing but his place: one who is slow misses what is no longer kept, and
//! is told how much.

mod event;
mod journal;
mod watch;

pub use self::{
    event::{Event, Kind},
    journal::Journal,
    watch::tell_changes,
};
