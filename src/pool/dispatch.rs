use crate::backend::Lease;

/// A request with the backend that was picked for it: what [`Balancer`](crate::balance::Balancer) calls its inner service with.
///
/// Only [`Feedback`](crate::feedback::Feedback) takes one, so a stack that forgets to account for its requests does not
/// compile: where the compiler says that `Service<Dispatch<…>>` is not implemented, a
/// [`FeedbackLayer`](crate::feedback::FeedbackLayer) is missing below the balancer.
#[derive(Debug)]
pub struct Dispatch<T, Req> {
    /// Holds the backend, and counts the request as in flight until it is completed or dropped.
    pub lease: Lease,
    /// How the backend is reached.
    pub target: T,
    /// The request as it came in.
    pub request: Req,
}

/// A request on its way to a target, with the accounting taken care of: what
/// [`Feedback`](crate::feedback::Feedback) calls its inner service with.
#[derive(Debug)]
pub struct Routed<T, Req> {
    /// How the backend is reached.
    pub target: T,
    /// The request as it came in.
    pub request: Req,
}
