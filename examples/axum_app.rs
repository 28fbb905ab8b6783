//! cargo run --example axum_app
//!
//! An axum app with a route of its own and a reverse proxy behind all other paths. Requests take turns over three
//! backends; one of them stops, and comes back on the same port; no request is lost.

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::{HeaderMap, uri::Scheme},
    middleware::map_request,
    routing::get,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};
use tower::ServiceExt;
use tower_balancer::{
    BackendPool, BoxError, HealthChecker, ReverseProxy,
    backend::HealthState,
    http::{Client, ClientConfig, HttpProbe, Peer},
    pool::{Change, Watch},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let [anna, bert, cleo] = [start("anna", 0).await?, start("bert", 0).await?, start("cleo", 0).await?];
    let pool = BackendPool::new([&anna, &bert, &cleo].map(|backend| format!("http://127.0.0.1:{}", backend.port)))?;
    let mut changes = pool.watch();
    tokio::spawn(HealthChecker::new(&pool, HttpProbe::new()).interval(Duration::from_millis(500)).run());

    let app = Router::new()
        .route("/hello", get(|| async { "hello from the app" }))
        .fallback_service(ReverseProxy::new(&pool))
        .layer(map_request(who_asks));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let home = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).into_future());

    println!("The app's own route:");
    assert_eq!(ask(1, &format!("{home}/hello")).await?, ["200 hello from the app"]);

    println!("The first health checks:");
    for _ in 0..3 {
        assert_eq!(health(&mut changes).await?, HealthState::Healthy);
    }

    println!("Every other path goes to the backends, in turns:");
    let answers = ask(6, &home).await?;
    assert!(["anna", "bert", "cleo"].iter().all(|name| count(name, &answers) == 2));
    assert_eq!(count("asked by 127.0.0.1", &answers), 6);

    println!("Bert stops. One request finds out, and nobody notices:");
    drop(bert.stop);
    bert.task.await??;
    let answers = ask(6, &home).await?;
    assert_eq!(count("anna", &answers) + count("cleo", &answers), 6);
    assert_eq!(health(&mut changes).await?, HealthState::Ejected);

    println!("Bert is back. The next health check finds out:");
    let _bert = start("bert", bert.port).await?;
    // In between one that was made at once may have found it gone.
    while health(&mut changes).await? != HealthState::Healthy {}
    let answers = ask(6, &home).await?;
    assert!(["anna", "bert", "cleo"].iter().all(|name| count(name, &answers) == 2));
    Ok(())
}

/// Axum knows who asks. The proxy tells the backends if it finds it here.
async fn who_asks(ConnectInfo(address): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(Peer::new(address, &Scheme::HTTP));
    request
}

async fn ask(times: usize, url: &str) -> Result<Vec<String>, BoxError> {
    let client: Client<Empty<Bytes>> = ClientConfig::new().build();
    let mut answers = Vec::new();
    for _ in 0..times {
        let response = client.clone().oneshot(Request::get(url).body(Empty::new())?).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        let answer = format!("{status} {}", String::from_utf8_lossy(&body));
        println!("  {answer}");
        answers.push(answer);
    }
    Ok(answers)
}

fn count(word: &str, answers: &[String]) -> usize {
    answers.iter().filter(|answer| answer.contains(word)).count()
}

/// Waits for the pool's next change, which is one of health here.
async fn health(changes: &mut Watch) -> Result<HealthState, BoxError> {
    let change = timeout(Duration::from_secs(10), changes.next()).await?;
    let Some(Change::Health { id, state, cause }) = change else { return Err(format!("{change:?}").into()) };
    println!("  {id} is {state}: {cause}");
    Ok(state)
}

struct Backend {
    port: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

/// Starts a backend that says its name and what it knows of the client. It ends when `stop` is dropped.
async fn start(name: &'static str, port: u16) -> io::Result<Backend> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let port = listener.local_addr()?.port();
    let (stop, stopped) = oneshot::channel();
    let app = Router::new().fallback(async move |headers: HeaderMap| {
        let client = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
        format!("{name}, asked by {client}")
    });
    let server = axum::serve(listener, app).with_graceful_shutdown(async { _ = stopped.await });
    Ok(Backend { port, stop, task: tokio::spawn(server.into_future()) })
}
