//! What real traffic says about the backends: the error-mapping layer.
//!
//! Health checks ask every few seconds; requests ask all the time. [`Feedback`] stands below the balancer, once per
//! attempt, where the backend is known. It judges each answer and each error ([`Classify`]), keeps the lease until the
//! request is complete ([`Complete`]), maps errors to a [`ProxyError`] that names the backend, and takes a backend whose
//! transport failed out of rotation at once. Other faults count, and the pool's [`Ejection`](crate::pool::Ejection) judges
//! them beside those of its peers. It does not make an HTTP status of an error:
//! [`Respond`](crate::http::Respond) does, once per request, since a failure that a retry repaired must reach the pool
//! and must not reach the client.
//!
//! ```
//! use tower_balancer::{backend::Outcome, feedback::{Classify, Fault, FeedbackLayer}};
//!
//! /// An application protocol that reports a broken backend in its answers.
//! #[derive(Clone, Copy, Debug)]
//! struct ByStatusLine;
//!
//! impl Classify<String> for ByStatusLine {
//!     fn response(&self, line: &String) -> Option<Outcome> {
//!         Some(if line.starts_with("-ERR internal") { Outcome::BackendFault } else { Outcome::Success })
//!     }
//!     fn error(&self, error: &(dyn std::error::Error + 'static)) -> Fault {
//!         Fault::of(error)
//!     }
//! }
//!
//! let layer = FeedbackLayer::new(ByStatusLine);
//! # let _ = layer;
//! ```
//!
//! # Limits
//!
//! tonic shows errors of this stack, such as [`Unavailable`](crate::Unavailable), as `Code::Unknown`.

mod classify;
mod complete;
mod error;
mod future;
mod layer;
mod service;

pub use self::{
    classify::{Classify, Fault, TransportErrors},
    complete::{AtResponse, Complete},
    error::ProxyError,
    future::ResponseFuture,
    layer::FeedbackLayer,
    service::Feedback,
};
