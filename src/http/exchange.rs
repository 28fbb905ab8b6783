use crate::error::BoxError;
use futures_util::future::{Either, select};
use std::{error::Error, pin::pin};

/// One exchange over a connection of its own, which is driven beside it and closed with it: no task is spawned.
pub(super) async fn exchange<R, E>(
    exchange: impl Future<Output = Result<R, BoxError>>,
    connection: impl Future<Output = Result<(), E>>,
) -> Result<R, BoxError>
where
    E: Error + Send + Sync + 'static,
{
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((result, _)) => result,
        // All that came is there already. Where that is not enough, the connection knows better why.
        Either::Right((closed, exchange)) => exchange.await.map_err(|error| closed.err().map_or(error, Into::into)),
    }
}
