use super::Update;
use crate::error::BoxError;

/// Who tells which backends there are: a stream of [`Update`]s.
///
/// A source waits by itself for as long as there is nothing new, and asks nobody more often than is good for them. What it
/// does about failures is to tell of them: when to try again is up to the [`Discoverer`](super::Discoverer).
pub trait Source<T>: Send + 'static {
    /// Waits for the next news. `None` where there will never be any again; the members stay then.
    ///
    /// The first answer comes as soon as it can be had, and so does what is new after an error: the caller has waited.
    ///
    /// # Errors
    ///
    /// Anything for which it cannot be said who is there. The innermost cause is shown as the reason.
    ///
    /// # Cancellation
    ///
    /// The future may be dropped at any time, and the next call goes on or begins anew: no change may be lost by it.
    fn next(&mut self) -> impl Future<Output = Option<Result<Update<T>, BoxError>>> + Send;

    /// Makes the next [`next`](Self::next) ask at once for all who are there, because what was said last is hard to believe.
    /// `false`, as unless it is implemented, where it cannot: what was said last then counts as said again.
    fn look_again(&mut self) -> bool {
        false
    }

    /// What it is called in events and in the status, such as `file backends.toml`.
    fn name(&self) -> String {
        "source".to_owned()
    }
}
