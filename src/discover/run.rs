use super::{
    DISCOVER_TARGET, Discoverer, Failure, Source, Update,
    departures::Departures,
    discoverer::Work,
    ledger::{Ledger, Settled},
    update::News,
};
use crate::{
    error::{BoxError, root_cause},
    rng::Rng,
    running::Run,
};
use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Instant,
};
use tokio::time::sleep_until;
use tracing::{info, warn};

/// What a run waits for.
enum Event<T> {
    Stopped,
    Told(Option<Result<Update<T>, BoxError>>),
    Due,
}

/// Makes the pool agree with the source until `run` is over, or there is nothing left to do. Nothing is spawned.
pub(super) async fn until_over<T, S>(discoverer: &Discoverer<T, S>, work: &mut Work<T, S>, mut run: Run)
where
    T: Clone + Send + Sync + 'static,
    S: Source<T>,
{
    let Work { source, ledger } = work;
    let guard = discoverer.settings.guard;
    let mut pool = Pool { discoverer, departures: Departures::new(discoverer.pool.clone()) };
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
                let due = pool.departures.due(now()).into_iter().chain(missing).min();
                if has_ended && due.is_none() {
                    return;
                }
                match event(asked.as_mut(), &mut run, due).await {
                    Event::Stopped => return,
                    Event::Told(told) => break Some(told),
                    Event::Due => pool.departures.look(now()),
                }
                if missing.is_some_and(|missing| missing <= now()) {
                    break None;
                }
            }
        };
        match told {
            Some(Some(Ok(update))) => {
                (pause, is_looking) = (None, false);
                pool.told(ledger, update);
            }
            Some(Some(Err(error))) => {
                let failures = pool.failed(&error);
                let length = discoverer.settings.backoff.length(failures - 1, rng.next_u64());
                pause = Some(tokio::time::Instant::now() + length);
            }
            Some(None) => {
                (has_ended, is_looking) = (true, false);
                discoverer.status.send_modify(|status| status.has_ended = true);
            }
            None if !has_ended && source.look_again() => is_looking = true,
            None => {
                let settled = ledger.review(&guard, now());
                pool.settle(ledger, settled);
            }
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

/// The pool, and who is on the way out of it.
struct Pool<'a, T: Clone + Send + Sync + 'static, S> {
    discoverer: &'a Discoverer<T, S>,
    departures: Departures<T>,
}

/// What its health says of one that its source drains.
const DRAINED: &str = "its source drains it";

impl<T: Clone + Send + Sync + 'static, S> Pool<'_, T, S> {
    /// Takes in what the source says.
    fn told(&mut self, ledger: &mut Ledger<T>, update: Update<T>) {
        let Update { news, version, mut skipped } = update;
        let (now, is_new) = (now(), !matches!(news, News::Unchanged));
        let mut settled = ledger.hear(news, &self.discoverer.settings.guard, now);
        skipped.extend(settled.twice.drain(..).map(|id| format!("{id}: listed more than once")));
        if is_new {
            self.put(ledger, now);
        }
        self.settle(ledger, settled);

        // What is told is told with no lock held: who listens may want to know the status.
        let before = self.discoverer.status();
        let source = &*before.source;
        for entry in skipped.iter().filter(|entry| !before.skipped.contains(entry)) {
            warn!(target: DISCOVER_TARGET, source, entry, "skipped");
        }
        if before.failures > 0 {
            info!(target: DISCOVER_TARGET, source, failures = before.failures, "the source answers again");
        }
        self.discoverer.status.send_modify(|status| {
            status.last_success = Some(now);
            status.failures = 0;
            if is_new {
                status.version = version;
                status.members = ledger.listed().len();
                status.skipped = skipped.into();
            }
        });
    }

    /// Puts into the pool who is there.
    fn put(&mut self, ledger: &Ledger<T>, now: Instant) {
        // Each id stands in the ledger once.
        _ = self.discoverer.pool.update(ledger.listed().map(|endpoint| endpoint.member.clone()), []);
        for endpoint in ledger.listed() {
            self.departures.recall(endpoint.id());
            if let Some(backend) = self.discoverer.pool.get(endpoint.id().as_str()) {
                backend.leave(endpoint.is_draining.then_some(DRAINED), now);
            }
        }
    }

    /// Lets go of those who have left.
    fn settle(&mut self, ledger: &Ledger<T>, settled: Settled) {
        let Settled { left, doubted, .. } = settled;
        let now = now();
        for id in left {
            self.departures.begin(id, self.discoverer.settings.drain, now);
        }
        self.departures.look(now);
        self.discoverer.status.send_modify(|status| status.doubted = ledger.doubted());
        if let Some(first) = doubted.first() {
            let (source, missing, listed) = (self.discoverer.status().source, doubted.len(), ledger.listed().len());
            warn!(
                target: DISCOVER_TARGET, source = &*source, missing, listed, %first,
                "too many are missing at once: they stay until that is confirmed"
            );
        }
    }

    /// Takes in that the source has failed. How often it has in a row.
    fn failed(&self, error: &BoxError) -> u32 {
        let (before, cause) = (self.discoverer.status(), root_cause(&**error));
        let failures = before.failures.saturating_add(1);
        warn!(
            target: DISCOVER_TARGET, source = &*before.source, cause, failures, members = before.members,
            "the source failed: the members stay"
        );
        self.discoverer.status.send_modify(|status| {
            status.failures = failures;
            status.last_failure = Some(Failure { when: now(), cause: cause.into() });
        });
        failures
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
