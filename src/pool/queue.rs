use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, locked};
use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// The callers that wait for room, in the order in which they came, and how many were promised room and have not taken it.
///
/// Only the first looks whether there is room: whatever changes wakes it alone, and it wakes the next where there is more.
/// So one request that ends wakes one caller, and a backend that comes back no herd. But one that was woken and does not look,
/// because nobody polls it, or that looks and finds nothing, because its strategy refuses, keeps nobody: those behind it
/// look now and then whether it is so.
///
/// What a change did is visible to whoever it wakes. And who comes while it happens is seen by it, or sees it: both change
/// `len`, and the second of the two knows what the first did before.
#[derive(Default)]
pub(crate) struct Queue {
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
    tellings: u64,
    waiting: VecDeque<Caller>,
}

struct Caller {
    number: u64,
    /// Something has changed since it looked: the number of the telling.
    told: Option<u64>,
    /// It was told and does not look: until it does, it keeps nobody.
    is_away: bool,
    waker: Option<Waker>,
}

impl Callers {
    fn place(&self, number: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&number, |caller| caller.number).ok()
    }

    /// Tells the first that something has changed. Its waker is to be called with nothing locked.
    fn tell_first(&mut self) -> Option<Waker> {
        let at = self.first()?;
        self.tellings += 1;
        self.waiting[at].told.get_or_insert(self.tellings);
        self.waiting[at].waker.take()
    }

    /// The first of those that look when they are told.
    fn first(&self) -> Option<usize> {
        self.waiting.iter().position(|caller| !caller.is_away)
    }
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Whether one that comes takes nothing from those that wait: nobody does, or the first has looked and found nothing for
    /// itself, or none of them looks.
    pub(crate) fn lets_by(&self) -> bool {
        let is_content = |callers: &Callers| callers.first().is_none_or(|at| callers.waiting[at].told.is_none());
        self.is_empty() || is_content(&self.lock())
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
        let told = callers.first().is_none().then_some(0);
        callers.waiting.push_back(Caller { number, told, is_away: false, waker: None });
        self.len.fetch_add(1, Ordering::AcqRel);
        Place { queue: Arc::clone(self), number }
    }

    fn withdraw(&self) {
        self.promised.fetch_add(WITHDRAWN - 1, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, Callers> {
        // Nothing panics in between.
        locked(&self.callers)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.len).finish_non_exhaustive()
    }
}

/// The place of one that waits. Dropping it leaves the line, and then it is the next one's turn to look.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Place {
    /// Ends when this was told that something has changed since it looked last, or it came to an empty line.
    pub(crate) async fn turn(&self) {
        poll_fn(|context| self.poll_turn(context)).await;
    }

    fn poll_turn(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut callers = self.queue.lock();
        let Some(at) = callers.place(self.number) else { return Poll::Ready(()) };
        let caller = &mut callers.waiting[at];
        caller.is_away = false;
        if caller.told.take().is_some() {
            return Poll::Ready(());
        }
        let before = caller.waker.replace(context.waker().clone());
        drop(callers);
        // What goes with it may leave the line as well.
        drop(before);
        Poll::Pending
    }

    /// Whether one that was not told may look: it is the first, or the first has looked and found nothing for itself. Where the
    /// first was told before `seen` and has not looked yet, it is passed over.
    pub(crate) fn may_look(&self, seen: &mut Option<u64>) -> bool {
        let mut callers = self.queue.lock();
        let Some(at) = callers.first() else { return true };
        let first = &mut callers.waiting[at];
        let told = first.told;
        if first.number == self.number || told.is_none() {
            return true;
        }
        if std::mem::replace(seen, told) != told {
            return false;
        }
        first.is_away = true;
        let next = callers.tell_first();
        drop(callers);
        next.into_iter().for_each(Waker::wake);
        false
    }

    /// Leaves with what it came for. The next looks where something has changed meanwhile, or `is_more` for it.
    pub(crate) fn served(self, is_more: bool) {
        self.leave(is_more);
    }

    /// Does nothing the second time.
    fn leave(&self, is_more: bool) {
        let mut callers = self.queue.lock();
        let Some(at) = callers.place(self.number) else { return };
        let was_first = callers.first() == Some(at);
        let left = callers.waiting.remove(at);
        let was_told = left.as_ref().is_some_and(|caller| caller.told.is_some());
        self.queue.len.fetch_sub(1, Ordering::AcqRel);
        let next = (was_first && (is_more || was_told)).then(|| callers.tell_first()).flatten();
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
pub(crate) struct Promise(Option<Arc<Queue>>);

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
