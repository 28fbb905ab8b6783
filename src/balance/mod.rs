//! The balancer as a tower middleware.
//!
//! One of many interchangeable servers has to be chosen for each request, and the choice has to hold until the answer is
//! complete. [`Balancer`] chooses: it reads the pool's current version, asks the strategy, takes a
//! [`Lease`](crate::backend::Lease) on the backend and hands all of it, as a [`Dispatch`](crate::pool::Dispatch), to the inner service. It is
//! `Clone` and needs no buffer, no task and no queue; it chooses when the request is known, not before.
//!
//! Not tied to HTTP. Here the targets are services that add a number:
//!
//! ```
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
//! use tower_balancer::{
//!     BackendPool,
//!     balance::{BalancerLayer, Direct},
//!     feedback::FeedbackLayer,
//!     pool::Member,
//!     strategy::RoundRobin,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let adds = |n: u32| BoxCloneSyncService::new(service_fn(move |x: u32| async move { Ok::<_, BoxError>(x + n) }));
//! let pool = BackendPool::from_members([Member::new("ten", adds(10)), Member::new("twenty", adds(20))])?;
//!
//! let mut service = ServiceBuilder::new()
//!     .layer(BalancerLayer::new(&pool, RoundRobin::new()))
//!     .layer(FeedbackLayer::default())
//!     .service(Direct);
//!
//! assert_eq!(service.ready().await?.call(1).await?, 11);
//! assert_eq!(service.ready().await?.call(1).await?, 21);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! Callers that wait do so in one line for each pool, and only the first is woken, who wakes the next where there is more
//! room. Room that one was promised in `poll_ready` is kept for it until its call, or until its service is dropped: a ready
//! service that is kept for later keeps it from others. A caller that gives up waiting, but keeps its service, keeps its place
//! until the service is polled again or dropped, and those behind it pass it after a moment. Waiting needs a tokio runtime with
//! its timer.

mod describe;
mod direct;
mod future;
mod layer;
mod service;
mod slots;
mod wait;

pub use self::{
    describe::Describe,
    direct::Direct,
    future::ResponseFuture,
    layer::BalancerLayer,
    service::{Balancer, PICK_TARGET},
};
