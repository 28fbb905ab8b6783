use crate::error::BoxError;

/// One question to one backend: are you well?
///
/// A closure from a target to a future will do:
///
/// ```
/// use tower_balancer::{BackendPool, BoxError, backend::Origin, health::HealthChecker};
///
/// let pool = BackendPool::new(["http://10.0.0.1:8080"])?;
/// let checker = HealthChecker::new(&pool, |origin: Origin| async move {
///     // Ask your own way; `Ok` and `Err` carry the words for the log.
///     if origin.port() == 8080 { Ok("right port".to_owned()) } else { Err(BoxError::from("wrong port")) }
/// });
/// # let _ = checker;
/// # Ok::<_, tower_balancer::pool::InvalidMember>(())
/// ```
pub trait Probe<T>: Send + Sync + 'static {
    /// Asks the backend that is reached by `target`. `Ok` with what was seen, in words, where it is well.
    ///
    /// # Errors
    ///
    /// Anything that says it is not well; the innermost cause is shown as the reason.
    ///
    /// # Cancellation
    ///
    /// The future is dropped when the checker's timeout passes.
    fn check(&self, target: T) -> impl Future<Output = Result<String, BoxError>> + Send;
}

impl<T, F, A> Probe<T> for F
where
    F: Fn(T) -> A + Send + Sync + 'static,
    A: Future<Output = Result<String, BoxError>> + Send,
{
    fn check(&self, target: T) -> impl Future<Output = Result<String, BoxError>> + Send {
        self(target)
    }
}
