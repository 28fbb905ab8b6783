use crate::sync::{AtomicUsize, Ordering};
use std::sync::Arc;

/// A bounded number of places that are taken and given back.
///
/// The count orders nothing else, and a compare-and-swap loop never lets it below zero, so `Relaxed` suffices.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<AtomicUsize>);

impl Slots {
    pub(crate) fn new(free: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(free)))
    }

    /// A place, unless all are taken.
    pub(crate) fn take(&self) -> Option<Slot> {
        let one_less = |free: usize| free.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        Some(Slot(self.clone()))
    }
}

/// A place that is given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Slots);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}
