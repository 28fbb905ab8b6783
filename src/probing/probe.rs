use crate::{backend::Report, error::BoxError};

/// One question to one backend: how loaded are you? A closure from a target to a future will do.
pub trait LoadProbe<T>: Send + Sync + 'static {
    /// Asks the backend that is reached by `target`.
    ///
    /// # Errors
    ///
    /// Any: the backend has then told nothing, and that is all. Whether it is well is a health checker's to find out.
    ///
    /// # Cancellation
    ///
    /// The future is dropped when the prober's timeout passes, or the prober is.
    fn ask(&self, target: T) -> impl Future<Output = Result<Report, BoxError>> + Send;
}

impl<T, F, A> LoadProbe<T> for F
where
    F: Fn(T) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Report, BoxError>> + Send,
{
    fn ask(&self, target: T) -> impl Future<Output = Result<Report, BoxError>> + Send {
        self(target)
    }
}
