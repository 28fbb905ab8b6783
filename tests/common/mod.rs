//! Real servers on loopback, to be balanced and to be killed.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod admin;
#[cfg(feature = "kubernetes")]
pub mod api_server;
pub mod browser;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod gateway;
pub mod gateway_load;
#[cfg(feature = "dns")]
pub mod name_server;
pub mod network;

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response, StatusCode, uri::Scheme};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_balancer::http::{Client, ClientConfig, Peer};

/// A server that dies, with all its connections, when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    accepting: AbortHandle,
}

impl Server {
    /// Serves `service` over HTTP/1.1 and HTTP/2 on a free port.
    pub async fn http<S, B>(service: S) -> Self
    where
        S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        Self::http_at(free(), service).await
    }

    /// Serves `service` at `address`.
    pub async fn http_at<S, B>(address: SocketAddr, service: S) -> Self
    where
        S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        Self::raw_at(address, move |stream| {
            let peer = Peer::new(stream.peer_addr().unwrap(), &Scheme::HTTP);
            let service = service.clone().map_request(move |mut request: Request<_>| {
                request.extensions_mut().insert(peer.clone());
                request
            });
            async move {
                let server = auto::Builder::new(TokioExecutor::new());
                _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
            }
        })
        .await
    }

    /// Gives each connection to `handle`.
    pub async fn raw<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::raw_at(free(), handle).await
    }

    async fn raw_at<F>(address: SocketAddr, handle: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = bind(address).await;
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(handle(stream));
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Dies, and waits until nobody listens there any more.
    pub async fn kill(self) -> SocketAddr {
        let address = self.address;
        drop(self);
        until(|| async { TcpStream::connect(address).await.is_err() }).await;
        address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Who is killed leaves his port to nobody else.
fn free() -> SocketAddr {
    ([127, 0, 0, 1], gateway::free_port()).into()
}

/// A port that was in use a moment ago may take another moment.
async fn bind(address: SocketAddr) -> TcpListener {
    for _ in 0..200 {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("cannot listen on {address}");
}

/// Answers everything with `name`.
pub fn says(name: impl Into<String>) -> Router {
    let name = name.into();
    Router::new().fallback(move || async move { name })
}

/// Answers everything with `status`.
pub fn answers(status: StatusCode) -> Router {
    Router::new().fallback(move || async move { status })
}

/// Answers with what `f` makes of the request.
pub fn answers_with<F, R>(
    f: impl Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
) -> impl Service<Request<hyper::body::Incoming>, Response = Response<R>, Error = Infallible, Future: Send> + Clone + Send
where
    F: Future<Output = Response<R>> + Send + 'static,
    R: 'static,
{
    service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = f(request.map(Body::new));
        async move { Ok(answer.await) }
    })
}

/// Answers each request only when it may.
pub async fn waits() -> (Server, Arc<Semaphore>) {
    let may = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&may);
    let answer = move |_| {
        let permits = Arc::clone(&permits);
        async move {
            permits.acquire().await.unwrap().forget();
            Response::new(Full::<Bytes>::from("done"))
        }
    };
    (Server::http(answers_with(answer)).await, may)
}

pub fn client() -> Client<Full<Bytes>> {
    ClientConfig::new().build()
}

pub async fn get(url: impl AsRef<str>) -> (u16, String) {
    send(Request::get(url.as_ref()).body(Full::default()).unwrap()).await
}

pub async fn send(request: Request<Full<Bytes>>) -> (u16, String) {
    let response = client().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Looks again and again, for ten seconds at the most, until it is so.
pub async fn until<F: Future<Output = bool>>(mut so: impl FnMut() -> F) {
    for _ in 0..2_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to pass within ten seconds");
}
