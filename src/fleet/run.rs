use super::{
    conclave::Conclave,
    fleets::{FLEET_TARGET, Fleet},
    wire::{News, keep},
};
use crate::{
    discover::Failure,
    error::{BoxError, root_cause},
    rng::Rng,
    running::Run,
};
use std::{convert::Infallible, future::pending, time::Duration};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

/// What happens within this time is looked at once.
const GATHER: Duration = Duration::from_millis(20);

/// And somebody looks this often in any case: not all that an operator says is told by the pool.
const LOOK: Duration = Duration::from_secs(1);

/// Takes part until `run` is over. Nothing is spawned.
pub(super) async fn until_over<T: Clone + Send + Sync + 'static>(fleet: &Fleet<T>, mut run: Run) {
    // As long as somebody asks, what could not be reached comes back by a check.
    let _checked = fleet.pool.checked();
    let (news, mut heard) = unbounded_channel();
    let mut lease = None;
    let mut conclave = Conclave::new(fleet, now());
    // Watching starts before the pools are read, so that no change in between is missed.
    let (mut pool, mut share, mut orders) = (fleet.pool.watch(), fleet.share.watch(), fleet.orders.subscribe());
    {
        let mut connected = std::pin::pin!(stay_connected(fleet, &mut lease, &news));
        loop {
            conclave.settle(now());
            let due = conclave.due();
            let alone = async { if let Some(due) = due { sleep_until(due.into()).await } else { pending().await } };
            tokio::select! {
                () = run.stopped() => break,
                never = &mut connected => match never {},
                Some(told) = heard.recv() => conclave.hear(told, now()),
                change = pool.next() => if change.is_none() { break },
                _ = share.next() => {}
                Ok(()) = orders.changed() => {}
                () = alone => {}
                () = sleep(LOOK) => {}
            }
            // One change seldom comes alone.
            let gathered = Instant::now() + GATHER;
            loop {
                tokio::select! {
                    () = sleep_until(gathered) => break,
                    never = &mut connected => match never {},
                    Some(told) = heard.recv() => conclave.hear(told, now()),
                    Some(_) = pool.next() => {}
                    _ = share.next() => {}
                    Ok(()) = orders.changed() => {}
                }
            }
        }
    }
    if let Some(lease) = lease {
        leave(fleet, lease).await;
    }
}

/// Ends the lease, by whichever endpoint answers: others may take its place at once.
async fn leave<T>(fleet: &Fleet<T>, lease: i64) {
    for turn in 0..fleet.config.endpoints() {
        let left = async { fleet.config.in_time(fleet.config.connect(turn).await?.lease_revoke(lease)).await };
        match left.await {
            Ok(_) => return,
            Err(error) => {
                warn!(target: FLEET_TARGET, cause = root_cause(&*error), "the others notice the end when the lease ends");
            }
        }
    }
}

/// Connects, and connects again.
async fn stay_connected<T>(fleet: &Fleet<T>, lease: &mut Option<i64>, news: &UnboundedSender<News>) -> Infallible {
    let mut rng = Rng::new(fastrand::u64(..));
    // Not every gateway should begin with the same endpoint.
    let (mut turn, mut failures) = (fastrand::usize(..), 0_u32);
    loop {
        let begun = Instant::now();
        let error = match keep(fleet, turn, lease, news).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        // What held for a while was no failure to connect.
        failures = if begun.elapsed() > fleet.ttl { 0 } else { failures };
        failed(fleet, &error, failures);
        sleep(fleet.backoff.length(failures, rng.next_u64())).await;
        (failures, turn) = (failures.saturating_add(1), turn.wrapping_add(1));
    }
}

fn failed<T>(fleet: &Fleet<T>, error: &BoxError, failures: u32) {
    let cause = root_cause(&**error);
    // Once, and not as often as it is tried.
    if failures == 0 {
        warn!(target: FLEET_TARGET, cause, "the connection to etcd has failed");
    }
    let failure = Failure { when: now(), cause: cause.into() };
    fleet.status.send_modify(|status| status.last_failure = Some(failure));
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
