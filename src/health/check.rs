use super::Probe;
use crate::error::{BoxError, is_local, root_cause};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, time::Duration};

/// What one check found out, in words.
#[derive(Debug)]
pub(super) enum Answer {
    Well(String),
    Ill(String),
    /// Nothing about the backend: this process could not ask.
    Nothing(String),
}

/// Asks once, and waits for `timeout` at the most.
pub(super) async fn check<T, P: Probe<T>>(probe: &P, target: T, timeout: Duration) -> Answer {
    // One probe that panics must not end the checks of all others; it may do so before there is a future.
    let answer = AssertUnwindSafe(async { probe.check(target).await }).catch_unwind();
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(answer)) => judge(answer),
        Ok(Err(_)) => Answer::Ill("the probe panicked".to_owned()),
        Err(_) => Answer::Ill(format!("no answer within {timeout:?}")),
    }
}

fn judge(answer: Result<String, BoxError>) -> Answer {
    match answer {
        Ok(seen) => Answer::Well(seen),
        // Without descriptors to ask with, nothing was found out about the backend.
        Err(error) if is_local(&*error) => Answer::Nothing(root_cause(&*error)),
        Err(error) => Answer::Ill(root_cause(&*error)),
    }
}
