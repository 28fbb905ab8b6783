use crate::strategy::Index;
use futures_util::task::AtomicWaker;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    task::{Context, Poll},
};

/// The backends of which a probe is wanted: the last 64. Who wants one more loses the oldest, for nobody asks fast enough.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Places plus 1; 0 is taken.
    places: [AtomicU32; WANTED],
    put: AtomicU64,
    taken: AtomicU64,
    waker: AtomicWaker,
}

const WANTED: usize = 64;

impl Default for Wanted {
    fn default() -> Self {
        Self {
            places: std::array::from_fn(|_| AtomicU32::new(0)),
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        }
    }
}

impl Wanted {
    pub(super) fn put(&self, index: Index) {
        let at = self.put.fetch_add(1, Ordering::Relaxed) as usize % WANTED;
        self.places[at].store(index.get() as u32 + 1, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<Index> {
        let mut at = self.taken.load(Ordering::Relaxed);
        loop {
            let put = self.put.load(Ordering::Relaxed);
            let oldest = at.max(put.saturating_sub(WANTED as u64));
            if oldest >= put {
                return None;
            }
            match self.taken.compare_exchange(at, oldest + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let place = self.places[oldest as usize % WANTED].swap(0, Ordering::Acquire);
                    if let Some(place) = place.checked_sub(1) {
                        return Some(Index::new(place as usize));
                    }
                    at = oldest + 1;
                }
                Err(now) => at = now,
            }
        }
    }

    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Index> {
        if let Some(place) = self.take() {
            return Poll::Ready(place);
        }
        self.waker.register(cx.waker());
        // What came in between woke nobody.
        self.take().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_more_than_is_asked_loses_the_oldest() {
        let wanted = Wanted::default();
        (0..100).for_each(|place| wanted.put(Index::new(place)));
        let taken: Vec<_> = std::iter::from_fn(|| wanted.take()).map(Index::get).collect();
        assert_eq!(taken, (36..100).collect::<Vec<_>>());
    }
}
