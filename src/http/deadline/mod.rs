//! How long a whole request may take, all its attempts together.
//!
//! [`Deadline`] gives a request a time, from its arrival to the head of the answer that the client gets, back-offs
//! included. It stands above [`Retry`](super::Retry), whose attempts share that time, and below
//! [`Forward`](super::Forward), which has removed what the client's side meant for one hop only. When the time is over, the
//! attempt that is going on is dropped, which counts for nobody, and the error is [`DeadlineExceeded`].
//!
//! The time is the shortest of four, each of which may be missing:
//!
//! | who says | how |
//! |---|---|
//! | the host, for all requests | [`DeadlineLayer::new`] |
//! | the host, for one | a [`RequestDeadline`] among the extensions |
//! | a gRPC client | [`grpc-timeout`](GRPC_TIMEOUT): up to eight digits and one of `H`, `M`, `S`, `m`, `u`, `n` |
//! | any client | [`x-request-timeout-ms`](REQUEST_TIMEOUT_MS): digits |
//!
//! So a client may shorten what the host allows, and not lengthen it. A header that is malformed says nothing.
//!
//! Each attempt passes on what is left then, in those headers that the request came with: a backend that calls others
//! knows when nobody waits any more. And an attempt that another may follow gets its share of it, so that there is time
//! for the other. Both are done by [`ResponseTimeout`](super::ResponseTimeout), right before an attempt is sent.
//!
//! ```
//! use std::time::Duration;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_balancer::http::deadline::{DeadlineExceeded, DeadlineLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let hangs = service_fn(async |_: http::Request<()>| std::future::pending::<Result<http::Response<()>, BoxError>>().await);
//! let service = ServiceBuilder::new().layer(DeadlineLayer::new(Duration::from_secs(10))).service(hangs);
//!
//! let request = http::Request::builder().header("x-request-timeout-ms", "250").body(()).unwrap();
//! let error = service.oneshot(request).await.unwrap_err();
//! assert_eq!(error.downcast_ref::<DeadlineExceeded>().unwrap().time(), Duration::from_millis(250));
//! # }
//! ```
//!
//! # Limits
//!
//! The time begins when the request is handed over: what the service takes to be ready before that is not in it. It ends
//! with the head; what the body may take is up to [`BodyTimeout`](super::BodyTimeout) and the client. A request that was
//! dropped, or that ran out of its share, says nothing about the backend, or clients with little patience could put
//! backends out: one that hangs while all clients have less patience than
//! [`ResponseTimeout`](super::ResponseTimeout) is found by its health checks, and passed over by strategies that look at
//! the age of open requests.

mod attempt;
mod error;
mod future;
mod header;
mod service;

pub use self::{
    attempt::{AttemptsLeft, RequestDeadline},
    error::{DeadlineExceeded, ShareExceeded},
    future::ResponseFuture,
    header::{GRPC_TIMEOUT, REQUEST_TIMEOUT_MS},
    service::Deadline,
};

pub(super) use self::attempt::share_out;

use std::time::Duration;
use tower::Layer;

/// Puts a [`Deadline`] in front of whatever tries several backends.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    time: Option<Duration>,
}

impl DeadlineLayer {
    /// Every request has `time`, or less where it says so itself.
    pub fn new(time: Duration) -> Self {
        Self { time: Some(time) }
    }

    /// A request has the time that it says itself, and any time where it says none.
    pub fn none() -> Self {
        Self { time: None }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline::new(inner, self.time)
    }
}
