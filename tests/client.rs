//! The connections of the client: which are used again, which are closed, and how many there are.

mod common;

use bytes::Bytes;
use common::{Server, answers_with, says, until};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time,
};
use tower::{BoxError, Service, ServiceExt};
use tower_balancer::{
    feedback::{Classify, Fault},
    http::{Client, ClientConfig, HttpClassify, future::ClientFuture},
};

/// What a server has seen of connections.
#[derive(Clone, Debug, Default)]
struct Seen {
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Seen {
    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    async fn left(&self, open: usize) {
        until(|| async { self.opened() - self.closed.load(Ordering::Relaxed) == open }).await;
    }
}

/// Gives each connection to `handle`, and counts them.
async fn counted<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> (Server, Seen)
where
    F: Future<Output = ()> + Send + 'static,
{
    let seen = Seen::default();
    let count = seen.clone();
    let server = Server::raw(move |stream| {
        count.opened.fetch_add(1, Ordering::Relaxed);
        let closed = Arc::clone(&count.closed);
        let handled = handle(stream);
        async move {
            handled.await;
            closed.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    (server, seen)
}

/// Serves `service` with up to `streams` on each connection of HTTP/2.
async fn serving<S, B>(service: S, streams: u32) -> (Server, Seen)
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    counted(move |stream| {
        let service = TowerToHyperService::new(service.clone());
        async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().max_concurrent_streams(streams);
            _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// Answers nobody until the test lets them go.
async fn waits(streams: u32) -> (Server, Seen, Arc<Semaphore>, Arc<AtomicUsize>) {
    let gate = Arc::new(Semaphore::new(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let (passes, asks) = (Arc::clone(&gate), Arc::clone(&asked));
    let service = answers_with(move |_| {
        let (passes, asks) = (Arc::clone(&passes), Arc::clone(&asks));
        async move {
            asks.fetch_add(1, Ordering::Relaxed);
            passes.acquire().await.unwrap().forget();
            Response::new(Full::<Bytes>::from("at last"))
        }
    });
    let (server, seen) = serving(service, streams).await;
    (server, seen, gate, asked)
}

fn client() -> Client<Full<Bytes>> {
    ClientConfig::new().build()
}

fn to(server: &Server) -> Request<Full<Bytes>> {
    Request::get(server.url()).body(Full::default()).unwrap()
}

async fn ask(client: &Client<Full<Bytes>>, server: &Server) -> Bytes {
    let answer = client.clone().oneshot(to(server)).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()
}

/// Asks `number` times at once, and returns when all have reached the server and been answered.
async fn ask_at_once(
    client: &Client<Full<Bytes>>,
    number: usize,
    (server, _, gate, asked): &(Server, Seen, Arc<Semaphore>, Arc<AtomicUsize>),
) {
    asked.store(0, Ordering::Relaxed);
    let mut callers = JoinSet::new();
    for _ in 0..number {
        let answer = client.clone().oneshot(to(server));
        callers.spawn(async move { answer.await.unwrap().into_body().collect().await.unwrap() });
    }
    until(|| async { asked.load(Ordering::Relaxed) == number }).await;
    gate.add_permits(number);
    callers.join_all().await;
}

async fn later(time: Duration) {
    // What is on its way arrives before the clock jumps: the answer to a ping, say.
    time::sleep(Duration::from_millis(50)).await;
    // Only while it passes: a clock that stands still would jump to the connect timeout while a socket is awaited.
    time::pause();
    time::advance(time).await;
    time::resume();
}

// ---- which are used again

#[tokio::test]
async fn a_connection_is_used_again_when_the_answer_was_read_to_its_end() {
    let known = serving(says("of known length"), 1).await;
    let chunked = answers_with(|_| async {
        let chunks = ["in ", "chunks"].map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from(chunk))));
        Response::new(StreamBody::new(futures_util::stream::iter(chunks)))
    });
    let chunked = serving(chunked, 1).await;
    let empty = serving(answers_with(|_| async { Response::new(Empty::<Bytes>::new()) }), 1).await;
    let client = client();
    for ((server, seen), text) in [(&known, "of known length"), (&chunked, "in chunks"), (&empty, "")] {
        for _ in 0..5 {
            assert_eq!(ask(&client, server).await, text);
        }
        assert_eq!(seen.opened(), 1, "{text}");
    }
    // Where there is no end to be read, the head is the end.
    for _ in 0..5 {
        let head = Request::builder().method(Method::HEAD).uri(known.0.url()).body(Full::default()).unwrap();
        drop(client.clone().oneshot(head).await.unwrap());
        assert_eq!(known.1.opened(), 1);
    }
}

#[tokio::test]
async fn a_connection_is_closed_with_an_answer_that_was_given_up() {
    let endless = answers_with(|_| async {
        let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 16 * 1024])));
        Response::new(StreamBody::new(futures_util::stream::repeat_with(frame)))
    });
    let (server, seen) = serving(endless, 1).await;
    let client = client();
    for turn in 1..=2 {
        let mut answer = client.clone().oneshot(to(&server)).await.unwrap();
        answer.frame().await.unwrap().unwrap();
        drop(answer);
        seen.left(0).await;
        assert_eq!(seen.opened(), turn);
    }
}

#[tokio::test]
async fn nor_does_one_stay_open_that_says_nothing_more() {
    let (server, seen) = counted(|mut stream| async move {
        _ = stream.read(&mut [0; 4_096]).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun").await;
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let client = client();
    for (turn, frames) in [(1, 0), (2, 1)] {
        let mut answer = client.clone().oneshot(to(&server)).await.unwrap();
        for _ in 0..frames {
            answer.frame().await.unwrap().unwrap();
        }
        drop(answer);
        seen.left(0).await;
        assert_eq!(seen.opened(), turn);
    }
}

#[tokio::test]
async fn answers_over_http2_that_nobody_reads_keep_no_other_from_its_own() {
    // Each is more than a stream of it may hold back.
    let answers = answers_with(|request| async move {
        Response::new(Full::new(match request.uri().path() {
            "/long" => Bytes::from(vec![b'x'; 8 << 20]),
            _ => Bytes::from("short"),
        }))
    });
    let (server, seen) = serving(answers, 100).await;
    let client = ClientConfig::new().http2().build();
    let ask = |path: &str| {
        let request = Request::get(format!("{}{path}", server.url())).body(Full::<Bytes>::default()).unwrap();
        client.clone().oneshot(request)
    };
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(ask("/long").await.unwrap());
    }
    let short = async { ask("/short").await.unwrap().into_body().collect().await.unwrap().to_bytes() };
    let short = time::timeout(Duration::from_secs(10), short).await.expect("it waits for what nobody reads");
    assert_eq!((short, seen.opened()), (Bytes::from("short"), 1));
}

#[tokio::test]
async fn an_answer_that_is_there_and_not_wanted_costs_no_connection() {
    // As of one that is tried again elsewhere: a backend that is short of everything is not made to accept anew.
    let (server, seen) = serving(says("not now"), 1).await;
    let client = client();
    for _ in 0..5 {
        drop(client.clone().oneshot(to(&server)).await.unwrap());
        // Its task sees to the rest.
        tokio::task::yield_now().await;
    }
    assert_eq!(seen.opened(), 1);
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let patient = counted(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
    let (server, seen) = patient.await;
    let request = tokio::spawn(client().oneshot(to(&server)));
    seen.left(1).await;
    request.abort();
    seen.left(0).await;
}

#[tokio::test]
async fn a_connection_that_still_sends_a_request_is_not_used_for_another() {
    // Answers the head of a request, whatever becomes of its body.
    let (server, seen) = counted(|mut stream| async move {
        let mut some = [0; 4_096];
        while let Ok(1..) = stream.read(&mut some).await {
            if some.starts_with(b"GET") || some.starts_with(b"POST") {
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
            some = [0; 4_096];
        }
    })
    .await;
    let client: Client<_> = ClientConfig::new().build();
    let request = |method: Method, mut frames: mpsc::UnboundedReceiver<Bytes>| {
        let frames = futures_util::stream::poll_fn(move |cx| {
            frames.poll_recv(cx).map(|data| data.map(|data| Ok::<_, Infallible>(Frame::data(data))))
        });
        Request::builder().method(method).uri(server.url()).body(StreamBody::new(frames)).unwrap()
    };
    let ask = async |request| {
        let answer = client.clone().oneshot(request).await.unwrap().into_body();
        assert_eq!(answer.collect().await.unwrap().to_bytes(), "ok");
    };
    let (upload, frames) = mpsc::unbounded_channel();
    upload.send(Bytes::from("begun")).unwrap();
    ask(request(Method::POST, frames)).await;
    let (none, frames) = mpsc::unbounded_channel();
    drop(none);
    ask(request(Method::POST, frames)).await;
    assert_eq!(seen.opened(), 2);
    drop(upload);
}

#[test]
fn what_was_never_sent_on_a_connection_that_had_just_closed_goes_on_another() {
    // In a thread of its own: what it does is done while the client cannot look.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (close, closes) = std::sync::mpsc::channel::<()>();
    let (tell, closed) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let answer = |text| {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4_096]).unwrap() > 0);
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{text}").unwrap();
            stream
        };
        let first = answer("first");
        closes.recv().unwrap();
        drop(first);
        tell.send(()).unwrap();
        _ = answer("again");
    });
    let request = |body| Request::post(&url).body(Full::<Bytes>::from(body)).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut client = client();
        let first = client.call(request("one")).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(first.to_bytes(), "first");
        close.send(()).unwrap();
        closed.recv().unwrap();
        // The runtime learns of it now, and the task of the connection only after this one has sent a request.
        tokio::task::yield_now().await;
        let again = client.call(request("two")).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(again.to_bytes(), "again");
    });
    server.join().unwrap();
}

#[tokio::test]
async fn not_one_whose_server_speaks_http_1_0() {
    // hyper would take the server at its word, and send what has no length without a word on it.
    let (server, seen) = counted(|mut stream| async move {
        let mut some = [0; 4_096];
        while stream.read(&mut some).await.is_ok_and(|read| read > 0) {
            let answer = b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let client = client();
    for opened in 1..=3 {
        assert_eq!(ask(&client, &server).await, "ok");
        assert_eq!(seen.opened(), opened);
    }
}

#[tokio::test]
async fn one_of_http_2_that_is_dead_without_a_word_is_found_out() {
    // What is asked first is never answered, nor is anything else on that connection.
    let first = Arc::new(AtomicUsize::new(0));
    let (server, seen) = counted(move |stream| {
        let is_first = first.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                return time::sleep(Duration::from_secs(3_600)).await;
            }
            let service = TowerToHyperService::new(says("hello"));
            _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let client = ClientConfig::new().http2().build();
    let stuck = tokio::spawn(client.clone().oneshot(to(&server)));
    until(|| async { seen.opened() == 1 }).await;
    later(Duration::from_secs(6)).await;
    later(Duration::from_secs(6)).await;
    assert!(stuck.await.unwrap().is_err());
    assert_eq!(ask(&client, &server).await, "hello");
}

// ---- how many, and for how long

#[tokio::test]
async fn there_are_as_many_connections_as_requests_at_once() {
    let waiting = waits(1).await;
    let client = client();
    for number in [20, 20, 7, 21] {
        ask_at_once(&client, number, &waiting).await;
        assert_eq!(waiting.1.opened(), number.max(20));
    }
}

#[tokio::test]
async fn no_more_are_kept_than_may_be() {
    let waiting = waits(1).await;
    for most in [0, 3] {
        let client = ClientConfig::new().max_idle(most).build();
        ask_at_once(&client, 10, &waiting).await;
        waiting.1.left(most).await;
        drop(client);
        waiting.1.left(0).await;
    }
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    for config in [ClientConfig::new(), ClientConfig::new().http2()] {
        let (server, seen) = serving(says("hello"), 1).await;
        let client = config.build();
        for (wait, opened) in [(0, 1), (60, 1), (60, 1), (91, 2)] {
            later(Duration::from_secs(wait)).await;
            assert_eq!(ask(&client, &server).await, "hello");
            assert_eq!(seen.opened(), opened, "{wait}");
            seen.left(1).await;
        }
    }
}

#[tokio::test]
async fn of_many_connections_those_that_are_not_needed_any_more_are_closed() {
    let waiting = waits(1).await;
    let client = client();
    ask_at_once(&client, 10, &waiting).await;
    for _ in 0..3 {
        later(Duration::from_secs(60)).await;
        ask_at_once(&client, 2, &waiting).await;
    }
    waiting.1.left(2).await;
    assert_eq!(waiting.1.opened(), 10);
}

#[tokio::test]
async fn the_connections_to_a_backend_that_is_gone_are_closed() {
    for config in [ClientConfig::new(), ClientConfig::new().http2()] {
        let gone = serving(says("gone"), 1).await;
        let stays = serving(says("stays"), 1).await;
        let client = config.build();
        ask(&client, &gone.0).await;
        later(Duration::from_secs(91)).await;
        ask(&client, &stays.0).await;
        gone.1.left(0).await;
        stays.1.left(1).await;
    }
}

// ---- HTTP/2

#[tokio::test]
async fn requests_over_http2_share_a_connection_while_it_has_room() {
    for (allowed, requests, connections) in [(1_000, 100, 1), (1_000, 101, 2), (10, 10, 1), (10, 25, 3)] {
        let waiting = waits(allowed).await;
        let client = ClientConfig::new().http2().build();
        // What the server allows for is known when it has answered once.
        ask_at_once(&client, 1, &waiting).await;
        for _ in 0..2 {
            ask_at_once(&client, requests, &waiting).await;
            assert_eq!(waiting.1.opened(), connections, "{requests} with {allowed}");
        }
    }
}

#[tokio::test]
async fn the_first_requests_over_http2_share_a_connect_and_survive_who_began_it() {
    let waiting = waits(1_000).await;
    let client = ClientConfig::new().http2().build();
    ask_at_once(&client, 50, &waiting).await;
    assert_eq!(waiting.1.opened(), 1);

    let (server, seen) = serving(says("hello"), 1_000).await;
    let mut first = tokio_test::task::spawn(client.clone().oneshot(to(&server)));
    let mut second = tokio_test::task::spawn(client.clone().oneshot(to(&server)));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    drop(first);
    assert_eq!(second.into_inner().await.unwrap().status(), 200);
    assert_eq!(seen.opened(), 1);
}

// ---- what fails, and what it costs

#[tokio::test]
async fn a_connect_that_takes_too_long_is_a_backend_that_cannot_be_reached() {
    // Nobody accepts, and there is room for few.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        held.push(stream);
    }
    for config in [ClientConfig::new(), ClientConfig::new().http2()] {
        let client = config.connect_timeout(Duration::from_millis(20)).build();
        let request = Request::get(format!("http://{address}")).body(Full::<Bytes>::default()).unwrap();
        let error = client.oneshot(request).await.unwrap_err();
        let fault = Classify::<Response<()>>::error(&HttpClassify, &*error);
        assert_eq!(fault, Fault::CONNECT, "{error:?}");
    }
}

#[tokio::test]
async fn what_is_not_plain_http_is_never_sent_in_the_clear() {
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let service = answers_with(move |_| {
        asks.fetch_add(1, Ordering::Relaxed);
        async { Response::new(Full::<Bytes>::from("in the clear")) }
    });
    let (server, _) = serving(service, 1).await;
    let client = client();
    ask(&client, &server).await;
    for uri in [server.url().replace("http:", "https:"), "/".to_owned()] {
        let request = Request::get(uri).body(Full::default()).unwrap();
        let error = client.clone().oneshot(request).await.unwrap_err();
        assert_eq!(Classify::<Response<()>>::error(&HttpClassify, &*error), Fault::CONNECT);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_client_and_its_future_are_small() {
    // They are moved through every layer above, for each request.
    assert_eq!(size_of::<Client<Full<Bytes>>>(), size_of::<usize>());
    assert!(size_of::<ClientFuture>() <= 4 * size_of::<usize>());
}
