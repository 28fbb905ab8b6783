use super::{Discoverer, Source, Update, ledger::Ledger, reconciler::Reconciler};
use crate::{error::BoxError, rng::Rng, running::Run};
use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Instant,
};
use tokio::time::sleep_until;

/// What a run waits for.
enum Event<T> {
    Stopped,
    Told(Option<Result<Update<T>, BoxError>>),
    Due,
}

/// Makes the pool agree with the source until `run` is over, or there is nothing left to do. Nothing is spawned.
pub(super) async fn until_over<T, S>(
    discoverer: &Discoverer<T, S>,
    source: &mut S,
    ledger: &mut Ledger<T>,
    mut run: Run,
) where
    T: Clone + Send + Sync + 'static,
    S: Source<T>,
{
    let guard = discoverer.settings.guard;
    let mut reconciler = Reconciler::new(discoverer);
    reconciler.begin(ledger);
    let mut rng = Rng::new(discoverer.settings.seed.unwrap_or_else(|| fastrand::u64(..)));
    // When to ask again after a failure.
    let mut pause = None;
    let mut has_ended = false;
    // Whether the source was told to look for those that are missing, and has not answered yet.
    let mut is_looking = false;
    loop {
        let told = {
            let mut asked = pin!(async {
                if let Some(pause) = pause {
                    sleep_until(pause).await;
                }
                if has_ended { pending().await } else { source.next().await }
            });
            loop {
                let missing = ledger.due(&guard).filter(|_| !is_looking);
                let due = reconciler.due(now()).into_iter().chain(missing).min();
                if has_ended && due.is_none() {
                    return;
                }
                match event(asked.as_mut(), &mut run, due).await {
                    Event::Stopped => return,
                    Event::Told(told) => break Some(told),
                    Event::Due => reconciler.look(now()),
                }
                if missing.is_some_and(|missing| missing <= now()) {
                    break None;
                }
            }
        };
        match told {
            Some(Some(Ok(update))) => {
                (pause, is_looking) = (None, false);
                reconciler.told(ledger, update);
            }
            Some(Some(Err(error))) => {
                let failures = reconciler.failed(&error);
                let length = discoverer.settings.backoff.length(failures - 1, rng.next_u64());
                pause = Some(tokio::time::Instant::now() + length);
            }
            Some(None) => {
                (has_ended, is_looking) = (true, false);
                reconciler.ended();
            }
            // While it fails it says nothing again: what it says next is its second word.
            None if !has_ended && (source.look_again() || pause.is_some()) => is_looking = true,
            None => reconciler.affirmed(ledger),
        }
    }
}

/// The next event. A stop goes before what is there at the same time.
async fn event<T>(
    mut asked: Pin<&mut impl Future<Output = Option<Result<Update<T>, BoxError>>>>,
    run: &mut Run,
    due: Option<Instant>,
) -> Event<T> {
    let mut stopped = pin!(run.stopped());
    let mut due = pin!(async { if let Some(due) = due { sleep_until(due.into()).await } else { pending().await } });
    poll_fn(|cx| {
        if stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Stopped);
        }
        if let Poll::Ready(told) = asked.as_mut().poll(cx) {
            return Poll::Ready(Event::Told(told));
        }
        due.as_mut().poll(cx).map(|()| Event::Due)
    })
    .await
}

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
