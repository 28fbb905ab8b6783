use crate::pool::Routed;
use std::task::{Context, Poll};
use tower::{Service, util::Oneshot};

/// The end of a stack whose targets are services themselves: a tonic `Channel`, a database client.
///
/// Each request goes to a clone of its target, which is asked for readiness first. Always ready: readiness that matters
/// is the target's, and which target it will be is known with the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl<S, Req> Service<Routed<S, Req>> for Direct
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, Req>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Routed { target, request }: Routed<S, Req>) -> Self::Future {
        Oneshot::new(target, request)
    }
}
