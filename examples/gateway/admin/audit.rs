//! Who has changed what: as a `tracing` event, and for whoever follows `/events`.

use crate::events::{Event, Journal, Kind};
use std::net::SocketAddr;
use tower_balancer::backend::Backend;
use tracing::info;

/// The `tracing` target of the events that tell of each change by an operator, with the fields `who`, `pool`, `backend`,
/// `before` and `after`.
pub const AUDIT_TARGET: &str = "gateway::audit";

/// What an operator does to a backend.
pub struct Change<'a> {
    pub who: SocketAddr,
    /// In one word: `drain`.
    pub what: &'a str,
    pub pool: &'a str,
    pub backend: &'a str,
}

impl Change<'_> {
    /// Tells that it was done: how it was, and how it is now.
    pub fn tell(self, before: String, after: String, journal: &Journal) {
        let Self { who, what, pool, backend } = self;
        let text = format!("{who} says {what} to {backend} of {pool}: {before} -> {after}");
        info!(target: AUDIT_TARGET, %who, what, pool, backend, before, after, "{text}");
        let event = Event::new(Kind::Change, text).pool(pool).backend(backend).reason(what);
        journal.tell(Event { who: Some(who.to_string()), before: Some(before), after: Some(after), ..event });
    }
}

/// A backend as the audit tells of it.
pub fn summary(backend: &Backend) -> String {
    format!("{}, weight {}", backend.health().state(), backend.weight())
}
