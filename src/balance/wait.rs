use super::slots::Slots;
use crate::{
    pool::View,
    strategy::{Admission, Strategy},
};
use futures_util::future::select;
use std::{
    pin::{Pin, pin},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// How long, and how many at once, callers wait in `poll_ready` for a backend to become available.
#[derive(Clone, Debug)]
pub(super) struct WaitingRoom {
    slots: Slots,
    limit: usize,
    timeout: Duration,
}

/// How long one who comes while others wait lets them go first, though there be room.
const COURTESY: Duration = Duration::from_millis(5);

/// A caller that waits. Ends with whether the pool admits a request, or else when its time is over; dropping it leaves
/// the room.
pub(super) type Waiting = Pin<Box<dyn Future<Output = bool> + Send + Sync>>;

impl WaitingRoom {
    pub(super) fn new(timeout: Duration, limit: usize) -> Self {
        Self { slots: Slots::new(limit), limit, timeout }
    }

    /// Whether nobody waits: who comes later does not go first.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.free() == self.limit
    }

    /// A place in the room; `None` where it is full.
    pub(super) fn enter<T, G>(&self, view: &View<T, G>) -> Option<Waiting>
    where
        T: Send + Sync + 'static,
        G: Strategy,
    {
        let is_first = self.is_empty();
        let slot = self.slots.take()?;
        let time = self.timeout;
        let view = view.clone();
        // Watching starts before the pool is asked, so a change in between is not missed.
        let mut watch = view.watch();
        Some(Box::pin(async move {
            let _slot = slot;
            if !is_first {
                // Those who wait have been woken for what there is, and are about to take it.
                _ = timeout(COURTESY, view.released()).await;
            }
            let admitted = async {
                while view.load().admit() != Admission::Admit {
                    // Somebody changes something, a request makes room, or time does it alone.
                    let due = view.due(Instant::now().into_std()).unwrap_or(Duration::MAX);
                    let (change, release) = (pin!(watch.next()), pin!(view.released()));
                    if timeout(due, select(change, release)).await.is_err() {
                        view.advance(Instant::now().into_std());
                    }
                }
            };
            // Over time is no error here: `call` picks, and says what is missing.
            timeout(time, admitted).await.is_ok()
        }))
    }
}
