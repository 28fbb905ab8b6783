use crate::backend::{BackendId, HealthState};
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

/// One change of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A backend joined.
    Added(BackendId),
    /// A backend left. Requests that it still serves go on to their end.
    Removed(BackendId),
    /// A backend's weight changed.
    Weight(BackendId),
    /// A backend's tier or zone changed.
    Locality(BackendId),
    /// A backend's health was observed for the first time, or changed.
    Health {
        /// Which backend.
        id: BackendId,
        /// What it is now.
        state: HealthState,
        /// The observation, in words.
        cause: Arc<str>,
    },
    /// Too few backends are well, and others are picked as well, or no longer: see [`FailOpen`](super::FailOpen).
    FailOpen(bool),
    /// A backend would have been ejected for its answers and was not, because more than half of the pool went within ten
    /// seconds: something else is wrong. Told once in ten seconds.
    Frozen,
    /// The watcher was too slow and missed this many changes: read the pool anew.
    Missed(u64),
}

/// The changes of a pool, in order, from the moment of [`BackendPool::watch`](super::BackendPool::watch).
#[derive(Debug)]
pub struct Watch(broadcast::Receiver<Change>);

impl Watch {
    pub(super) fn new(receiver: broadcast::Receiver<Change>) -> Self {
        Self(receiver)
    }

    /// The next change; `None` once the pool is gone.
    ///
    /// # Cancellation
    ///
    /// Safe: a change is either returned or still there.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(missed)) => Some(Change::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
