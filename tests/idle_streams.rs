//! Streams on which nothing is said for an hour, through the gateway's server and the standard proxy: those that may be silent stay,
//! cost nothing, and go on; those that may not are cut off.
//!
//! The clock is moved by hand, and real connections are waited for in between.

#[path = "common/wire.rs"]
mod wire;

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::{Ping, PingPong, RecvStream, SendStream, client::SendRequest};
use http::{Request, Response};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    time,
};
use tokio_tungstenite::tungstenite::Message;
use tower_balancer::http::ClientConfig;
use wire::{Wire, limits::Limits};

const HOUR: Duration = Duration::from_secs(3_600);

/// Less than a ping to a backend and its answer may take together.
const STEP: Duration = Duration::from_secs(4);

/// What a connection may cost while nothing happens on it: places in a queue that are used again.
const NOTHING: i64 = 4 * 1024;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Moves the clock.
async fn later(by: Duration) {
    time::pause();
    time::advance(by).await;
    time::resume();
}

async fn is_over(wire: &Wire) {
    for _ in 0..1_000 {
        if wire.pool.backends()[0].load().in_flight() == 0 {
            return;
        }
        time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", wire.pool.backends()[0].load());
}

/// A backend that sends back what it is sent, and how to ask it for a sign of life.
struct Echo {
    wire: Wire,
    ping: Arc<Mutex<Option<PingPong>>>,
}

impl Echo {
    async fn begin() -> Self {
        let ping = Arc::<Mutex<Option<PingPong>>>::default();
        let given = Arc::clone(&ping);
        let handle = move |stream| echo(stream, Arc::clone(&given));
        let client = ClientConfig::new().http2();
        Self { wire: Wire::handling_with(Limits::default(), |proxy| proxy.client(client), handle).await, ping }
    }
}

async fn echo(stream: TcpStream, ping: Arc<Mutex<Option<PingPong>>>) {
    stream.set_nodelay(true).unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    *ping.lock().unwrap() = connection.ping_pong();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut back = respond.send_response(head, false).unwrap();
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                back.send_data(data, false).unwrap();
            }
            // It has more to say, and does not say it.
            std::future::pending::<()>().await;
        });
    }
}

/// A call on a connection of its own.
struct Call {
    to: SendStream<Bytes>,
    from: RecvStream,
    front: PingPong,
    back: PingPong,
    _client: SendRequest<Bytes>,
}

impl Call {
    async fn begin(echo: &Echo) -> Self {
        let stream = echo.wire.connect().await;
        stream.set_nodelay(true).unwrap();
        let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
        let front = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::post(format!("http://{}/talk", echo.wire.front));
        let request = request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
        let (answer, to) = client.send_request(request, false).unwrap();
        let from = answer.await.unwrap().into_body();
        let back = echo.ping.lock().unwrap().take().unwrap();
        Self { to, from, front, back, _client: client }
    }

    async fn says(&mut self, word: &'static str) {
        self.to.send_data(Bytes::from_static(word.as_bytes()), false).unwrap();
        let heard = self.from.data().await.expect("it has ended").unwrap();
        self.from.flow_control().release_capacity(heard.len()).unwrap();
        assert_eq!(heard, word);
    }

    /// A while, in which both ends ask for signs of life and nothing else. Each is asked twice: what the gateway has asked meanwhile
    /// is answered before the second, so that it is not taken for dead when the clock moves on.
    async fn idles(&mut self, time: Duration) {
        for _ in 0..time.as_secs() / STEP.as_secs() {
            later(STEP).await;
            for side in [&mut self.front, &mut self.back] {
                side.ping(Ping::opaque()).await.unwrap();
                side.ping(Ping::opaque()).await.unwrap();
            }
        }
    }
}

#[test]
fn a_call_in_which_nobody_speaks_for_an_hour_goes_on_after_it_and_has_cost_nothing() {
    let runtime = runtime();
    let (_echo, mut call) = runtime.block_on(async {
        let echo = Echo::begin().await;
        let mut call = Call::begin(&echo).await;
        call.says("hello").await;
        // What is made once is made now; the connection is asked to go when no request begins on it for a while, and stays.
        call.idles(HOUR / 10).await;
        (echo, call)
    });
    let held = measure(|| runtime.block_on(call.idles(HOUR)));
    assert!(held.bytes_current < NOTHING, "{held:?}");
    runtime.block_on(call.says("again"));
}

#[test]
fn a_tunnel_in_which_nobody_speaks_for_an_hour_goes_on_after_it_and_has_cost_nothing() {
    let runtime = runtime();
    let (wire, mut socket) = runtime.block_on(async {
        let wire = Wire::handling(Limits::default(), |stream| async move {
            let (mut out, mut back) = tokio_tungstenite::accept_async(stream).await.unwrap().split();
            while let Some(Ok(message)) = back.next().await {
                if message.is_text() {
                    out.send(message).await.unwrap();
                }
            }
        })
        .await;
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/", wire.front)).await.unwrap();
        (wire, socket)
    });
    let mut says = async |word: &'static str| {
        socket.send(Message::text(word)).await.ok()?;
        socket.next().await?.ok()?.into_text().ok().filter(|heard| heard.as_str() == word)
    };
    let idles = async || {
        for _ in 0..60 {
            later(HOUR / 60).await;
        }
    };
    runtime.block_on(async { assert!(says("hello").await.is_some()) });
    let held = measure(|| runtime.block_on(idles()));
    assert!(held.bytes_current < NOTHING, "{held:?}");
    runtime.block_on(async {
        assert!(says("again").await.is_some(), "it was cut off");
        // Nobody is waited for for ever: it is cut off after an hour in which nothing was said, when somebody looks, which is each
        // hour.
        for _ in 0..3 {
            idles().await;
        }
        is_over(&wire).await;
        assert!(says("still?").await.is_none(), "it was not cut off");
    });
}

#[test]
fn an_answer_that_its_backend_owes_is_cut_off() {
    runtime().block_on(async {
        let echo = Echo::begin().await;
        let mut call = Call::begin(&echo).await;
        call.says("hello").await;
        // From here on it is the backend that has to speak.
        call.to.send_data(Bytes::new(), true).unwrap();
        call.idles(Duration::from_secs(240)).await;
        assert!(time::timeout(Duration::from_millis(50), call.from.data()).await.is_err(), "it was cut off too early");
        later(Duration::from_secs(100)).await;
        assert!(call.from.data().await.is_some_and(|data| data.is_err()), "it was not cut off");
        is_over(&echo.wire).await;
    });
}
