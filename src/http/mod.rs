//! HTTP: the only floor that knows status codes, headers and connections.
//!
//! A proxy is mostly rules about what may pass. Each rule is a middleware of its own here, so that a host can take them
//! one by one; [`ReverseProxy`](crate::ReverseProxy) is all of them in the right order.
//!
//! | layer | how often | what it does |
//! |---|---|---|
//! | [`TraceLayer`] | once per request | takes it into its trace: see [`trace_context`] |
//! | [`UpgradeLayer`] | once per request | joins client and backend where they switch to WebSocket |
//! | [`RespondLayer`] | once per request | makes a status of an error |
//! | [`ForwardLayer`] | once per request | removes what is for one hop only, adds `X-Forwarded-*`, refuses what cannot be forwarded |
//! | [`SessionLayer`] | once per request | tells the client which backend keeps its session |
//! | [`DeadlineLayer`] | once per request | bounds the time of all attempts together: see [`deadline`] |
//! | [`RetryLayer`] | once per request | sends what failed to another backend: see [`retry`] |
//! | [`HedgeLayer`] | once per attempt | asks a second backend where the first takes long: see [`hedge`] |
//! | [`FeedbackLayer::http`](crate::feedback::FeedbackLayer::http) | once per attempt | judges statuses and errors, keeps the lease to the end of the body |
//! | [`TraceAttemptLayer`] | once per attempt | tells the backend in which span of the trace it is |
//! | [`AccessLogLayer`] | once per attempt | says what went where |
//! | [`AddressLayer`] | once per attempt | writes the backend's address into the URI |
//! | [`ResponseTimeoutLayer`] | once per attempt | gives up on a silent backend, passes on what is left of the request's time |
//! | [`BodyTimeoutLayer`] | once per attempt | breaks off an answer that stands still |
//! | [`Client`] | once per attempt | sends it |
//!
//! On the other side, [`ReportLoadLayer`] makes a server tell how loaded it is, in the head of each answer: see [`orca`].
//!
//! A client that balances over HTTP itself is no proxy. It takes the lower half of the stack (the `tonic_client` example has it with
//! deadline, retries and timeouts):
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_balancer::{
//!     BackendPool,
//!     balance::BalancerLayer,
//!     feedback::FeedbackLayer,
//!     http::{AddressLayer, Client, ClientConfig},
//!     strategy::RoundRobin,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let client: Client<String> = ClientConfig::new().http2().build();
//! let balanced = ServiceBuilder::new()
//!     .layer(BalancerLayer::new(&pool, RoundRobin::new()))
//!     .layer(FeedbackLayer::http())
//!     .layer(AddressLayer::new())
//!     .service(client);
//! # fn takes_requests(_: impl tower::Service<http::Request<String>> + Clone) {}
//! # takes_requests(balanced);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! No `CONNECT` but to start a WebSocket over HTTP/2, no upgrades on connections to backends over HTTP/2. Informational answers
//! of backends (103 and the like) end here: hyper's server has no means to send them on.

mod access_log;
mod address;
mod body_timeout;
mod classify;
mod client;
mod coalesce;
mod cookie;
pub mod deadline;
mod dial;
mod exchange;
mod excused;
mod forward;
mod grpc;
mod grpc_health;
mod grpc_probe;
pub mod hedge;
mod hop_by_hop;
mod key;
mod leased_body;
mod load_probe;
pub mod orca;
mod own;
mod own_answer;
mod peer;
mod probe;
mod protobuf;
mod protocol;
mod report_load;
mod respond;
mod response_timeout;
pub mod retry;
mod seldom;
mod served_by;
mod session;
mod stream;
mod strict;
#[cfg(feature = "tls")]
mod tls;
mod token;
#[cfg(feature = "tower-http")]
mod tower_http;
pub mod trace_context;
mod trailers;
mod transport;
mod turn;
mod upgrade;

#[cfg(feature = "tls")]
pub use self::tls::{InvalidTls, TlsConfig};
#[cfg(feature = "tower-http")]
pub use self::tower_http::TowerHttpClassify;
pub use self::{
    access_log::{ACCESS_TARGET, AccessLog, AccessLogLayer},
    address::{Address, AddressLayer},
    body_timeout::{BodyTimeout, BodyTimeoutLayer, Stalled, WatchedBody},
    classify::{ClassifyEnd, HttpClassify},
    client::{Client, ClientBody, ClientConfig},
    coalesce::Coalesce,
    deadline::{Deadline, DeadlineLayer},
    forward::{Forward, ForwardBody, ForwardLayer, InvalidNetwork, Network, Refused},
    grpc_probe::GrpcProbe,
    hedge::{Hedge, HedgeLayer},
    key::{InvalidKey, RequestKey},
    leased_body::{AtEndOfBody, LeasedBody},
    load_probe::HttpLoadProbe,
    own_answer::OwnAnswer,
    peer::Peer,
    probe::HttpProbe,
    report_load::{ReportBody, ReportLoad, ReportLoadLayer},
    respond::{RESPOND_TARGET, Respond, RespondBody, RespondLayer},
    response_timeout::{ResponseTimeout, ResponseTimeoutLayer, Silent},
    retry::{Charge, ReplayBody, Retry, RetryBudget, RetryLayer, Tried, TriedBackends},
    served_by::ServedBy,
    session::{InvalidCookieName, Session, SessionCookie, SessionLayer},
    strict::{Strict, Switch},
    trace_context::{Trace, TraceAttempt, TraceAttemptLayer, TraceContext, TraceLayer},
    turn::TimedBody,
    upgrade::{Upgrade, UpgradeLayer},
};

/// The response futures of the middleware here, for those who must name them.
pub mod future {
    pub use super::{
        access_log::ResponseFuture as AccessLogFuture,
        body_timeout::ResponseFuture as BodyTimeoutFuture,
        client::ResponseFuture as ClientFuture,
        deadline::ResponseFuture as DeadlineFuture,
        forward::ResponseFuture as ForwardFuture,
        hedge::ResponseFuture as HedgeFuture,
        report_load::ResponseFuture as ReportLoadFuture,
        respond::ResponseFuture as RespondFuture,
        response_timeout::ResponseFuture as ResponseTimeoutFuture,
        retry::ResponseFuture as RetryFuture,
        session::ResponseFuture as SessionFuture,
        trace_context::{AttemptFuture as TraceAttemptFuture, ResponseFuture as TraceFuture},
        upgrade::ResponseFuture as UpgradeFuture,
    };
}
