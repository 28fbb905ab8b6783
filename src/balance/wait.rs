use super::slots::Slots;
use crate::{
    pool::{Promise, View},
    strategy::{Admission, Strategy},
};
use std::{pin::Pin, time::Duration};
use tokio::time::{Instant, timeout};

/// How long, and how many at once, callers wait in `poll_ready` for a backend to become available.
#[derive(Clone, Debug)]
pub(super) struct WaitingRoom {
    slots: Slots,
    timeout: Duration,
}

/// Who was told and has not looked after so long is not polled.
const NAP: Duration = Duration::from_millis(10);

/// A caller that waits. Ends with the room that it was promised, or without where its time is over; dropping it leaves the
/// line.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Option<Promise>> + Send + Sync>>;

impl WaitingRoom {
    pub(super) fn new(timeout: Duration, limit: usize) -> Self {
        Self { slots: Slots::new(limit), timeout }
    }

    /// A promise at once, where there is room and nobody who waits can have it.
    pub(super) fn pass_by<T, G: Strategy>(&self, view: &View<T, G>) -> Option<Promise> {
        if view.queue().lets_by() { promise(view) } else { None }
    }

    /// A place in the line; `None` where as many wait as may.
    pub(super) fn enter<T, G>(&self, view: &View<T, G>) -> Option<Waiting>
    where
        T: Send + Sync + 'static,
        G: Strategy,
    {
        let slot = self.slots.take()?;
        let time = self.timeout;
        let view = view.clone();
        let place = view.queue().join();
        Some(Box::pin(async move {
            let _slot = slot;
            let promised = async {
                // Only who was told minds the time: the others are told.
                let (came, mut due, mut seen) = (Instant::now(), Duration::MAX, None);
                loop {
                    // Who has waited for as long again makes sure that the first has looked.
                    let nap = came.elapsed().max(NAP);
                    let is_told = timeout(due.min(nap), place.turn()).await.is_ok();
                    if !is_told {
                        view.advance(Instant::now().into_std());
                    }
                    if (is_told || place.may_look(&mut seen))
                        && let Some(promise) = promise(&view)
                    {
                        return promise;
                    }
                    if is_told || due != Duration::MAX {
                        due = due_in(&view).unwrap_or(Duration::MAX);
                    }
                }
            };
            // Over time is no error here: `call` says what is missing.
            let promise = timeout(time, promised).await.ok()?;
            place.served(has_room(&view, view.queue().promised()) || due_in(&view).is_some());
            Some(promise)
        }))
    }
}

/// Room for one call, where there is some beside what was promised to others.
pub(super) fn promise<T, G: Strategy>(view: &View<T, G>) -> Option<Promise> {
    view.queue().promise(|promised| has_room(view, promised))
}

/// Whether there is room beside so many that were promised to others.
pub(super) fn has_room<T, G: Strategy>(view: &View<T, G>, promised: usize) -> bool {
    view.load().admit_beside(promised) == Admission::Admit
}

/// How long it is until time alone changes a backend.
fn due_in<T, G>(view: &View<T, G>) -> Option<Duration>
where
    T: Send + Sync + 'static,
    G: Strategy,
{
    view.due(Instant::now().into_std())
}
