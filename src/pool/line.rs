use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

/// The callers that wait for room, in the order in which they came, and how many were promised room and have not taken it.
///
/// Only the first looks whether there is room: whatever changes wakes it alone, and it wakes the next where there is more.
/// So one request that ends wakes one caller, and a backend that comes back no herd.
///
/// What a change did is visible to whoever it wakes. And who comes while it happens is seen by it, or sees it: both change
/// `len`, and the second of the two knows what the first did before.
#[derive(Default)]
pub(crate) struct Line {
    len: AtomicUsize,
    callers: Mutex<Callers>,
    /// In the lower half how many, in the upper half how many times one was withdrawn: a number that went away and came back
    /// is not the same.
    promised: AtomicU64,
}

const PROMISES: u64 = u32::MAX as u64;
const WITHDRAWN: u64 = 1 << 32;

#[derive(Default)]
struct Callers {
    came: u64,
    line: VecDeque<Caller>,
}

struct Caller {
    number: u64,
    /// Something has changed since it looked.
    is_told: bool,
    waker: Option<Waker>,
}

impl Callers {
    fn place(&self, number: u64) -> Option<usize> {
        self.line.binary_search_by_key(&number, |caller| caller.number).ok()
    }

    /// Tells the first that something has changed. Its waker is to be called with nothing locked.
    fn tell_first(&mut self) -> Option<Waker> {
        let first = self.line.front_mut()?;
        first.is_told = true;
        first.waker.take()
    }
}

impl Line {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Something has changed: the first looks again.
    pub(crate) fn wake(&self) {
        self.wake_if(|| true);
    }

    fn wake_if(&self, there_is_reason: impl FnOnce() -> bool) {
        // A change of nothing, but one: see above.
        if self.len.fetch_add(0, Ordering::AcqRel) > 0 && there_is_reason() {
            let waker = self.lock().tell_first();
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// The right to make a call, where `has_room` for one beside so many that were promised to others.
    pub(crate) fn promise(self: &Arc<Self>, has_room: impl Fn(usize) -> bool) -> Option<Promise> {
        let one_more = |word| has_room((word & PROMISES) as usize).then_some(word + 1);
        self.promised.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Promise(Some(Arc::clone(self))))
    }

    /// To how many there was promised room that they have not taken yet.
    pub(crate) fn promised(&self) -> usize {
        (self.promised.load(Ordering::Acquire) & PROMISES) as usize
    }

    /// The last place in the line.
    pub(crate) fn join(self: &Arc<Self>) -> Place {
        let mut callers = self.lock();
        callers.came += 1;
        let number = callers.came;
        let is_told = callers.line.is_empty();
        callers.line.push_back(Caller { number, is_told, waker: None });
        self.len.fetch_add(1, Ordering::AcqRel);
        Place { line: Arc::clone(self), number }
    }

    fn withdraw(&self) {
        self.promised.fetch_add(WITHDRAWN - 1, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, Callers> {
        // Nothing panics in between.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("waiting", &self.len).finish_non_exhaustive()
    }
}

/// The place of one that waits. Dropping it leaves the line, and then it is the next one's turn to look.
#[derive(Debug)]
pub(crate) struct Place {
    line: Arc<Line>,
    number: u64,
}

impl Place {
    /// Ends when this is the first and something has changed since it looked last, or it never looked.
    pub(crate) async fn turn(&self) {
        poll_fn(|context| self.poll_turn(context)).await;
    }

    fn poll_turn(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut callers = self.line.lock();
        let Some(at) = callers.place(self.number) else { return Poll::Ready(()) };
        let caller = &mut callers.line[at];
        if at == 0 && std::mem::take(&mut caller.is_told) {
            return Poll::Ready(());
        }
        caller.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Leaves with what it came for. The next looks where something has changed meanwhile, or `is_more` for it.
    pub(crate) fn served(self, is_more: bool) {
        self.leave(is_more);
    }

    /// Does nothing the second time.
    fn leave(&self, is_more: bool) {
        let mut callers = self.line.lock();
        let Some(at) = callers.place(self.number) else { return };
        let was_told = callers.line.remove(at).is_some_and(|caller| caller.is_told);
        self.line.len.fetch_sub(1, Ordering::AcqRel);
        let next = (at == 0 && (is_more || was_told)).then(|| callers.tell_first()).flatten();
        drop(callers);
        next.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave(true);
    }
}

/// The right to make a call, kept until the call is made. Dropping it gives the room to whoever waits.
#[derive(Debug)]
pub(crate) struct Promise(Option<Arc<Line>>);

impl Promise {
    /// The call is made, and counts by itself now. Who looked in between saw it twice, and looks again where it `has_room`
    /// beside so many that were promised to others.
    pub(crate) fn kept(mut self, has_room: impl Fn(usize) -> bool) {
        if let Some(line) = self.0.take() {
            line.withdraw();
            line.wake_if(|| has_room(line.promised()));
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.withdraw();
            line.wake();
        }
    }
}
