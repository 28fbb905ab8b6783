//! cargo run --example tonic_client
//!
//! gRPC, balanced by the client. First over tonic's channels, one for each server: one server stops, a call finds out,
//! and a check by gRPC's own health protocol finds out that it is back. Then with the balancer as the client's
//! transport, over plain HTTP/2, with a deadline, timeouts and retries: one server stops, and no call fails. The service here is
//! the standard health service; any other will do.

use http::Uri;
use std::{error::Error as _, time::Duration};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint, Error, Server, server::TcpIncoming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::ServiceBuilder;
use tower_balancer::{
    BackendPool, BalancerLayer, BoxError, FeedbackLayer, HealthChecker,
    backend::Outcome,
    balance::Direct,
    http::{
        AddressLayer, ClientConfig, DeadlineLayer, ResponseTimeoutLayer, RetryBudget, RetryLayer, ServedBy,
        TriedBackends,
    },
    pool::Member,
    strategy::RoundRobin,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    over_channels().await?;
    over_http().await
}

/// The targets are channels: each connects by itself, with all that a tonic `Endpoint` can set.
async fn over_channels() -> Result<(), BoxError> {
    let [ann, bob, cat] = [start(0)?, start(0)?, start(0)?];
    let mut members = Vec::new();
    for (name, server) in [("ann", &ann), ("bob", &bob), ("cat", &cat)] {
        let channel = Endpoint::from_shared(format!("http://127.0.0.1:{}", server.port))?.connect_lazy();
        members.push(Member::new(name, channel));
    }
    let pool = BackendPool::from_members(members)?;
    let healthy = || pool.healthy().iter().map(|backend| backend.id().to_string()).collect::<Vec<_>>();
    let balanced = ServiceBuilder::new()
        .layer(BalancerLayer::new(&pool, RoundRobin::new()))
        .layer(FeedbackLayer::http())
        .service(Direct);
    let mut client = HealthClient::new(balanced);

    println!("Over channels, the servers take turns:");
    for turn in ["ann", "bob", "cat", "ann", "bob", "cat"] {
        assert_eq!(tell(client.check(HealthCheckRequest::default()).await), turn);
    }

    println!("Bob stops. One call finds out, the others do not notice:");
    drop(bob.stop);
    bob.task.await??;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(tell(client.check(HealthCheckRequest::default()).await));
    }
    assert!(answers.iter().filter(|answer| *answer != "ann" && *answer != "cat").count() <= 1);
    println!("  healthy: {:?}", healthy());
    assert_eq!(healthy(), ["ann", "cat"]);

    println!("Bob is back. A health check finds out:");
    let _bob = start(bob.port)?;
    let probe = async |channel: Channel| {
        let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await?.into_inner().status();
        if status == ServingStatus::Serving { Ok("serving".into()) } else { Err(BoxError::from("not serving")) }
    };
    HealthChecker::new(&pool, probe).check_all().await;
    println!("  healthy: {:?}", healthy());
    assert_eq!(healthy(), ["ann", "bob", "cat"]);
    Ok(())
}

/// The targets are addresses, and the balancer is the transport of the client, with what one wants at work.
async fn over_http() -> Result<(), BoxError> {
    let servers = [start(0)?, start(0)?, start(0)?];
    let pool = BackendPool::new(servers.iter().map(|server| format!("http://127.0.0.1:{}", server.port)))?;
    let balanced = ServiceBuilder::new()
        // Of a whole call; its own `grpc-timeout` may shorten it.
        .layer(DeadlineLayer::new(Duration::from_secs(10)))
        // Calls are POSTs: what was never sent is sent again, and with `any_method` all that failed.
        .layer(RetryLayer::new(RetryBudget::default()))
        .layer(BalancerLayer::new(&pool, RoundRobin::new()).describe_by(TriedBackends))
        .layer(FeedbackLayer::http())
        .layer(AddressLayer::new())
        // Of one attempt.
        .layer(ResponseTimeoutLayer::new(Duration::from_secs(5)))
        .service(ClientConfig::new().http2().build());
    // Tonic wants an origin. The one that counts is that of the backend that is picked.
    let mut client = HealthClient::with_origin(balanced, Uri::from_static("http://greeters"));

    println!("Over HTTP/2:");
    for _ in 0..6 {
        client.check(HealthCheckRequest::default()).await?;
    }
    for backend in pool.backends() {
        println!("  {} answered {} calls", backend.id(), backend.load().count(Outcome::Success));
        assert_eq!(backend.load().count(Outcome::Success), 2);
    }

    println!("One of them stops. Nobody notices:");
    let [stops, ..] = servers;
    drop(stops.stop);
    stops.task.await??;
    for _ in 0..6 {
        client.check(HealthCheckRequest::default()).await?;
    }
    println!("  healthy: {} of {}", pool.healthy().len(), pool.backends().len());
    assert_eq!(pool.healthy().len(), 2);
    Ok(())
}

/// Who answered, or else why nobody did.
fn tell<T>(reply: Result<tonic::Response<T>, tonic::Status>) -> String {
    let told = match reply {
        Ok(answer) => answer.extensions().get::<ServedBy>().map(|served| served.backend().to_string()),
        Err(status) => status.source().map(|error| format!("nobody: {error}")),
    };
    println!("  {}", told.as_deref().unwrap_or_default());
    told.unwrap_or_default()
}

struct Running {
    port: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

/// Starts a server. It ends when `stop` is dropped.
fn start(port: u16) -> Result<Running, BoxError> {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], port).into())?;
    let port = incoming.local_addr()?.port();
    let (stop, stopped) = oneshot::channel();
    let (_, service) = tonic_health::server::health_reporter();
    let server = Server::builder().serve_with_incoming_shutdown(service, incoming, async { _ = stopped.await });
    Ok(Running { port, stop, task: tokio::spawn(server) })
}
