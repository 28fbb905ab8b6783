use super::{Change, Source, Update};
use crate::{error::BoxError, pool::Member};
use std::{
    fmt::{self, Display},
    future::poll_fn,
    pin::Pin,
    task::Poll,
};
use tower::discover::{Change as TowerChange, Discover};

/// What a [`tower::discover::Discover`] yields, with each key as the id and each service as the target.
///
/// ```
/// use tower::discover::ServiceList;
/// use tower_balancer::{BackendPool, Discoverer, discover::TowerSource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[derive(Clone)] struct Shard(&'static str);
/// # impl tower::Service<()> for Shard {
/// #     type Response = (); type Error = (); type Future = std::future::Ready<Result<(), ()>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), ()>> { Ok(()).into() }
/// #     fn call(&mut self, (): ()) -> Self::Future { std::future::ready(Ok(())) }
/// # }
/// let services = ServiceList::new::<()>(vec![Shard("10.0.0.7"), Shard("10.0.0.8")]);
/// let pool = BackendPool::from_members([])?;
/// Discoverer::new(&pool, TowerSource::new(services)).run().await;
/// assert_eq!(pool.backends().len(), 2);
/// # Ok(())
/// # }
/// ```
///
/// What is ready at once is one update, so that a [`Guard`](super::Guard) sees it as one.
pub struct TowerSource<D> {
    inner: Pin<Box<D>>,
    /// What came after the last change: an error, or the end.
    after: Option<Option<BoxError>>,
}

/// One that is always ready must not keep the run from everything else.
const MOST_AT_ONCE: usize = 10_000;

impl<D: Discover> TowerSource<D> {
    /// The source that `discover` is.
    pub fn new(discover: D) -> Self {
        Self { inner: Box::pin(discover), after: None }
    }
}

impl<D> Source<D::Service> for TowerSource<D>
where
    D: Discover<Key: Display + Send, Service: Send, Error: Into<BoxError>> + Send + 'static,
{
    async fn next(&mut self) -> Option<Result<Update<D::Service>, BoxError>> {
        let mut changes = Vec::new();
        poll_fn(|cx| {
            while self.after.is_none() && changes.len() < MOST_AT_ONCE {
                match self.inner.as_mut().poll_discover(cx) {
                    Poll::Ready(Some(Ok(change))) => changes.push(translated(change)),
                    Poll::Ready(Some(Err(error))) => self.after = Some(Some(error.into())),
                    Poll::Ready(None) => self.after = Some(None),
                    Poll::Pending if changes.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            if !changes.is_empty() {
                return Poll::Ready(Some(Ok(Update::changes(changes.drain(..)))));
            }
            // An error is told once; the end stays the end.
            match &mut self.after {
                Some(Some(_)) => Poll::Ready(self.after.take().flatten().map(Err)),
                _ => Poll::Ready(None),
            }
        })
        .await
    }

    fn name(&self) -> String {
        "tower".to_owned()
    }
}

fn translated<K: Display, S>(change: TowerChange<K, S>) -> Change<S> {
    match change {
        TowerChange::Insert(key, service) => Change::Insert(Member::new(key.to_string(), service).into()),
        TowerChange::Remove(key) => Change::Remove(key.to_string().into()),
    }
}

impl<D> fmt::Debug for TowerSource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSource").finish_non_exhaustive()
    }
}
