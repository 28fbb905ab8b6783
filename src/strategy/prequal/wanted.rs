use crate::backend::Backend;
use arc_swap::ArcSwapOption;
use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

/// The backends of which a probe is wanted: the last 64. Who wants one more loses the oldest, for nobody asks fast enough.
///
/// Backends and not places: the picker that wants a probe may know a group of the members alone, and the members may have
/// changed by the time somebody asks.
#[derive(Debug)]
pub(super) struct Wanted {
    backends: [ArcSwapOption<Backend>; WANTED],
    put: AtomicU64,
    taken: AtomicU64,
    waker: AtomicWaker,
}

const WANTED: usize = 64;

impl Default for Wanted {
    fn default() -> Self {
        Self {
            backends: std::array::from_fn(|_| ArcSwapOption::empty()),
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        }
    }
}

impl Wanted {
    pub(super) fn put(&self, backend: &Arc<Backend>) {
        let at = self.put.fetch_add(1, Ordering::Relaxed) as usize % WANTED;
        self.backends[at].store(Some(Arc::clone(backend)));
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<Arc<Backend>> {
        let mut at = self.taken.load(Ordering::Relaxed);
        loop {
            let put = self.put.load(Ordering::Relaxed);
            let oldest = at.max(put.saturating_sub(WANTED as u64));
            if oldest >= put {
                return None;
            }
            match self.taken.compare_exchange(at, oldest + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => match self.backends[oldest as usize % WANTED].swap(None) {
                    Some(backend) => return Some(backend),
                    // Who wants it is about to write it down, and will wake whoever asks: by then it is late.
                    None => at = oldest + 1,
                },
                Err(now) => at = now,
            }
        }
    }

    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Arc<Backend>> {
        if let Some(backend) = self.take() {
            return Poll::Ready(backend);
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
        (0..100).for_each(|n: u32| wanted.put(&Arc::new(Backend::new(n.to_string()))));
        let taken = std::iter::from_fn(|| wanted.take()).map(|backend| backend.id().as_str().parse().unwrap());
        assert_eq!(taken.collect::<Vec<u32>>(), (36..100).collect::<Vec<_>>());
    }
}
