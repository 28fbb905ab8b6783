use super::slots::{Slot, Slots};
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

/// A caller that waits. Ends with the turn that it got, or without one when its time is over; dropping it leaves the room.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Option<Turn>> + Send + Sync>>;

/// The turn of a caller that has waited: its place in the room, which is kept until it has made its call, so that nobody who
/// comes now goes first. A turn that is not taken goes to the next.
pub(super) struct Turn {
    _slot: Slot,
    pass_on: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Turn {
    /// The call is made.
    pub(super) fn take(mut self) {
        self.pass_on = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pass_on) = self.pass_on.take() {
            pass_on();
        }
    }
}

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
            let admitted = async {
                if !is_first {
                    // Those who wait have been woken for what there is, and are about to take it.
                    _ = timeout(COURTESY, view.released()).await;
                }
                loop {
                    // In line before the pool is asked: a request that makes room in between wakes this one or another.
                    let mut release = pin!(view.released());
                    release.as_mut().enable();
                    if view.load().admit() == Admission::Admit {
                        return;
                    }
                    // Somebody changes something, a request makes room, or time does it alone.
                    let due = view.due(Instant::now().into_std()).unwrap_or(Duration::MAX);
                    if timeout(due, select(pin!(watch.next()), release)).await.is_err() {
                        view.advance(Instant::now().into_std());
                    }
                }
            };
            // Over time is no error here: `call` picks, and says what is missing.
            timeout(time, admitted).await.ok()?;
            Some(Turn { _slot: slot, pass_on: Some(Box::new(move || view.pass_on())) })
        }))
    }
}
