use super::{
    HealthChecker, Probe,
    roster::{Checked, Roster},
};
use crate::{pool::Change, running::Run};
use futures_util::{
    future::Aborted,
    stream::{FuturesUnordered, StreamExt},
};
use std::{
    future::{pending, poll_fn},
    pin::pin,
    task::Poll,
};
use tokio::time::{Instant, sleep_until};

/// What a run waits for.
enum Event {
    Stopped,
    Changed(Option<Change>),
    Checked(Result<Checked, Aborted>),
    Due,
}

/// Checks who is due until `run` is over and the last check has its answer. Nothing is spawned: all checks in flight are part
/// of this future.
pub(super) async fn rounds<T, P>(checker: HealthChecker<T, P>, mut run: Run)
where
    T: Clone + Send + Sync + 'static,
    P: Probe<T>,
{
    if run.is_over() {
        return;
    }
    // As long as somebody asks, what could not be reached comes back by a check.
    let _checked = checker.pool.checked();
    let concurrency = checker.settings.concurrency;
    // Watching starts before the pool is read, so that no change in between is missed.
    let mut watch = checker.pool.watch();
    let mut roster = Roster::new(checker, now());
    let mut checks = FuturesUnordered::new();
    loop {
        let is_over = run.is_over();
        if is_over && checks.is_empty() {
            return;
        }
        let limit = if is_over { 0 } else { concurrency };
        while checks.len() < limit
            && let Some(check) = roster.begin(now())
        {
            checks.push(check);
        }

        let mut stopped = pin!(async { if is_over { pending().await } else { run.stopped().await } });
        let mut changed = pin!(watch.next());
        // Who is due while there is no room waits for an answer.
        let next = roster.next().filter(|_| checks.len() < limit);
        let mut due =
            pin!(async { if let Some(next) = next { sleep_until(next.into()).await } else { pending().await } });
        let event = poll_fn(|cx| {
            // A stop goes before what is due at the same time.
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stopped);
            }
            if let Poll::Ready(change) = changed.as_mut().poll(cx) {
                return Poll::Ready(Event::Changed(change));
            }
            if let Poll::Ready(Some(checked)) = checks.poll_next_unpin(cx) {
                return Poll::Ready(Event::Checked(checked));
            }
            due.as_mut().poll(cx).map(|()| Event::Due)
        });
        match event.await {
            Event::Stopped | Event::Due | Event::Checked(Err(Aborted)) => {}
            Event::Checked(Ok(checked)) => roster.conclude(checked, now()),
            // The pool is gone.
            Event::Changed(None) => return,
            // Whoever joins now is not checked any more.
            Event::Changed(Some(_)) if is_over => {}
            Event::Changed(Some(change)) => roster.hear(change, now()),
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
