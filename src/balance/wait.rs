use super::slots::Slots;
use crate::{
    pool::View,
    strategy::{Admission, Strategy},
};
use std::{pin::Pin, time::Duration};

/// How long, and how many at once, callers wait in `poll_ready` for a backend to become available.
#[derive(Clone, Debug)]
pub(super) struct WaitingRoom {
    slots: Slots,
    timeout: Duration,
}

/// A caller that waits. Ends when the pool admits a request, or when its time is over; dropping it leaves the room.
pub(super) type Waiting = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl WaitingRoom {
    pub(super) fn new(timeout: Duration, limit: usize) -> Self {
        Self { slots: Slots::new(limit), timeout }
    }

    /// A place in the room; `None` where it is full.
    pub(super) fn enter<T, G>(&self, view: &View<T, G>) -> Option<Waiting>
    where
        T: Send + Sync + 'static,
        G: Strategy,
    {
        let slot = self.slots.take()?;
        let timeout = self.timeout;
        let view = view.clone();
        // Watching starts before the pool is asked, so a change in between is not missed.
        let mut watch = view.watch();
        Some(Box::pin(async move {
            let _slot = slot;
            let admitted = async { while view.load().admit() != Admission::Admit && watch.next().await.is_some() {} };
            // Over time is no error here: `call` picks, and says what is missing.
            let _ = tokio::time::timeout(timeout, admitted).await;
        }))
    }
}
