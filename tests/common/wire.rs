//! The gateway's own server around the standard proxy, between bytes that are sent and bytes that arrive.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

#[path = "../../examples/gateway/serving/connection.rs"]
pub mod connection;
#[path = "../../examples/gateway/serving/credit.rs"]
pub mod credit;
#[path = "../../examples/gateway/serving/doze.rs"]
pub mod doze;
#[path = "../../examples/gateway/serving/fired.rs"]
pub mod fired;
#[path = "../../examples/gateway/serving/frames.rs"]
pub mod frames;
#[path = "../../examples/gateway/serving/limits.rs"]
pub mod limits;
#[path = "../../examples/gateway/serving/parting.rs"]
mod parting;
#[path = "../../examples/gateway/serving/patience.rs"]
pub mod patience;
#[path = "../../examples/gateway/serving/pressing.rs"]
pub mod pressing;
#[path = "../../examples/gateway/serving/signs.rs"]
mod signs;
#[path = "../../examples/gateway/serving/tls.rs"]
pub mod tls;
#[path = "../../examples/gateway/serving/trailers.rs"]
mod trailers;
#[path = "../../examples/gateway/serving/turns.rs"]
pub mod turns;
#[path = "../../examples/gateway/serving/worth.rs"]
mod worth;

use connection::Connections;
use fired::Fired;
use hyper_util::service::TowerToHyperService;
use limits::Limits;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tls::Tls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tower_balancer::{
    BackendPool, ReverseProxy,
    backend::Origin,
    http::{ForwardLayer, HedgeLayer, RetryLayer},
    proxy::Builder,
    strategy::RoundRobin,
};
use turns::Turns;

/// No answer takes as long. What does, hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy over one backend.
pub struct Wire {
    pub front: SocketAddr,
    pub backend: SocketAddr,
    pub pool: BackendPool<Origin>,
    /// What the backend got: the bytes of each request.
    seen: Arc<Mutex<Vec<String>>>,
    running: [AbortHandle; 2],
    /// Which limits clients have met.
    pub fired: Fired,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.running.iter().for_each(AbortHandle::abort);
    }
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl Wire {
    /// The backend answers each request with `answer`, and closes after it where it says so.
    pub async fn answering(answer: &'static str) -> Self {
        Self::with(answer, Limits::default(), |proxy| proxy).await
    }

    pub async fn with(
        answer: &'static str,
        limits: Limits,
        adjust: impl FnOnce(Builder<RoundRobin>) -> Builder<RoundRobin>,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        Self::over(seen, limits, None, adjust, move |stream| talk(stream, Arc::clone(&told), answer)).await
    }

    /// Clients come over TLS.
    pub async fn encrypted(answer: &'static str, limits: Limits, tls: Tls) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        Self::over(seen, limits, Some(tls), |proxy| proxy, move |stream| talk(stream, Arc::clone(&told), answer)).await
    }

    /// The backend does with each connection what `handle` does.
    pub async fn handling<F>(limits: Limits, handle: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::handling_with(limits, |proxy| proxy, handle).await
    }

    pub async fn handling_with<F>(
        limits: Limits,
        adjust: impl FnOnce(Builder<RoundRobin>) -> Builder<RoundRobin>,
        handle: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::over(Arc::default(), limits, None, adjust, handle).await
    }

    async fn over<F>(
        seen: Arc<Mutex<Vec<String>>>,
        limits: Limits,
        tls: Option<Tls>,
        adjust: impl FnOnce(Builder<RoundRobin>) -> Builder<RoundRobin>,
        handle: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(handle(stream));
            }
        });
        let pool = BackendPool::new([format!("http://{backend}")]).unwrap();
        let forward = ForwardLayer::new();
        let proxy = ReverseProxy::builder(&pool).retry(RetryLayer::none()).hedge(HedgeLayer::none()).forward(forward);
        let proxy = adjust(proxy).build();
        let fired = limits.fired.clone();
        let connections = Connections::new(limits, tls);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = listener.local_addr().unwrap();
        let (turns, taken) = Turns::new();
        tokio::spawn(taken);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, address) = listener.accept().await.unwrap();
                if let Some(stream) = connections.admit(stream, &turns) {
                    let service = TowerToHyperService::new(proxy.clone());
                    tokio::spawn(connections.serve(stream, address, service, std::future::pending()));
                }
            }
        });
        Self { front, backend, pool, seen, running: [accepting.abort_handle(), serving.abort_handle()], fired }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.front).await.unwrap()
    }

    /// What comes back for these bytes until the proxy closes.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // It may refuse before all is sent.
        _ = stream.write_all(bytes.as_ref()).await;
        to_end(&mut stream).await
    }

    /// What the backend has got since this was last asked.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Sends bytes that must be refused with `status` and an end of the connection, and that must not reach the backend.
    pub async fn refuses(&self, bytes: impl AsRef<[u8]>, status: u16) {
        let shown = String::from_utf8_lossy(&bytes.as_ref()[..bytes.as_ref().len().min(300)]).into_owned();
        let answer = self.send(&bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?} had more than one answer: {answer:?}");
        assert_eq!(self.seen(), [""; 0], "{shown:?} reached the backend");
    }

    /// Sends a request that must get through, and tells what the backend got. The proxy must close after it.
    pub async fn passes(&self, bytes: impl AsRef<[u8]>) -> String {
        let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
        let answer = self.send(bytes).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "), "{shown:?}: {answer:?}");
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{shown:?}: {seen:?}");
        seen.remove(0)
    }
}

/// Lets so much time pass while nobody says anything.
pub async fn pass(time: Duration) {
    // Who reads has to wait for it already.
    tokio::time::sleep(Duration::from_millis(20)).await;
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Reads until the other side closes.
pub async fn to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "still open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until what was read ends so.
pub async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end.as_bytes()) {
            read.push(stream.read_u8().await?);
        }
        std::io::Result::Ok(())
    };
    let result = tokio::time::timeout(PATIENCE, reading).await;
    assert!(matches!(result, Ok(Ok(()))), "{result:?} after {:?}", String::from_utf8_lossy(&read));
    String::from_utf8(read).unwrap()
}

/// A backend that reads each request to its end, by the length that it says, and answers it.
async fn talk(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>, answer: &'static str) {
    while let Some(request) = request(&mut stream).await {
        seen.lock().unwrap().push(request);
        if stream.write_all(answer.as_bytes()).await.is_err() || answer.contains("Connection: close") {
            return;
        }
    }
}

/// The bytes of one request, body and all; `None` where the connection ends before.
pub async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    if header(&head, "transfer-encoding") == ["chunked"] {
        let last_chunk = |bytes: &[u8]| bytes.windows(5).any(|end| end == b"\r\n0\r\n");
        while !(bytes.ends_with(b"\r\n\r\n") && last_chunk(&bytes)) {
            bytes.push(stream.read_u8().await.ok()?);
        }
    } else if let Some(length) = header(&head, "content-length").first() {
        let mut body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        bytes.extend(body);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The values of a header of a message.
pub fn header<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    let lines = message.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let fields = lines.filter_map(|line| line.split_once(':'));
    fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}
