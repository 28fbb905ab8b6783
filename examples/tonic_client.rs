//! scratch
use std::{net::SocketAddr, time::Duration};
use tonic::transport::{Endpoint, Server, server::TcpIncoming};
use tonic_health::{pb::{HealthCheckRequest, health_client::HealthClient}, server::health_reporter};
use tower::ServiceBuilder;
use tower_balancer::{BackendPool, BalancerLayer, BoxError, FeedbackLayer, backend::Outcome, balance::Direct, http::{AddressLayer, ClientConfig}, pool::Member, strategy::RoundRobin};

macro_rules! drive { ($client:expr, $pool:expr, $n:expr) => {{
    let client = $client; let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = client.clone();
        tasks.spawn(async move {
            let mut first = None;
            let mut errors = 0;
            for _ in 0..$n {
                if let Err(e) = client.check(HealthCheckRequest::default()).await { errors += 1; first.get_or_insert(format!("{e:?}")); }
            }
            (errors, first)
        });
    }
    let all = tasks.join_all().await;
    println!("errors {}; first {:?}", all.iter().map(|a| a.0).sum::<i32>(), all.into_iter().find_map(|a| a.1));
    for b in $pool.backends() { for o in Outcome::ALL { if b.load().count(o) > 0 {println!("{o:?} {}", b.load().count(o)); }} println!("{:?}", b.health()); }
}} }

async fn plain(age: Option<Duration>) -> Result<(), BoxError> {
    println!("== age {age:?}");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let incoming = TcpIncoming::bind(any)?;
    let address = incoming.local_addr()?;
    let (_, service) = health_reporter();
    let mut s = Server::builder();
    if let Some(age) = age { s = s.max_connection_age(age); }
    tokio::spawn(s.serve_with_incoming(service, incoming));
    let channel = Endpoint::from_shared(format!("http://{}", address))?.connect_lazy();
    let pool = BackendPool::from_members([Member::new("one", channel.clone())])?;
    println!("-- plain channel");
    drive!(HealthClient::new(channel), BackendPool::<u8>::from_members([])?, 1000);
    println!("-- balanced channel");
    let stack = ServiceBuilder::new().layer(BalancerLayer::new(&pool, RoundRobin::new())).layer(FeedbackLayer::http()).service(Direct);
    drive!(HealthClient::new(stack), pool, 1000);
    println!("-- http2");
    let pool = BackendPool::new([format!("http://{}", address)])?;
    let stack = ServiceBuilder::new().layer(BalancerLayer::new(&pool, RoundRobin::new())).layer(FeedbackLayer::http()).layer(AddressLayer::new()).service(ClientConfig::new().http2().build());
    drive!(HealthClient::with_origin(stack, http::Uri::from_static("http://x")), pool, 1000);
    Ok(())
}
#[tokio::main]
async fn main() -> Result<(), BoxError> {
    plain(None).await?;
    plain(Some(Duration::from_millis(200))).await
}
