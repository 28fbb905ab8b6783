//! Requests on a schedule, whatever becomes of them.

use super::server::NUMBER;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use tower::BoxError;

/// A client has more patience than a proxy should need.
const PATIENCE: Duration = Duration::from_secs(70);

/// A steady load: each request has its time, and one that is late is sent all the same.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) target: SocketAddr,
    pub(super) method: Method,
    pub(super) per_second: u32,
    pub(super) connections: usize,
    pub(super) length: Duration,
}

/// One request: when it was due, when it was sent and when it was done, all since the start, and why it failed, if it did.
#[derive(Clone, Debug)]
pub struct Answer {
    pub due: Duration,
    pub sent: Duration,
    pub done: Duration,
    pub failure: Option<String>,
}

impl Load {
    /// Sends it all, over so many connections, and returns what became of it. A connection takes the next request that is
    /// due as soon as it is free.
    pub(super) async fn run(self) -> Vec<Answer> {
        let next = Arc::new(AtomicUsize::new(0));
        let requests = (self.length.as_secs_f64() * f64::from(self.per_second)) as usize;
        let start = Instant::now();
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            let (load, next) = (self.clone(), Arc::clone(&next));
            connections.spawn(async move {
                let (mut answers, mut connection) = (Vec::new(), None);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return answers;
                    }
                    let due = Duration::from_secs(1) * number as u32 / load.per_second;
                    tokio::time::sleep_until(start + due).await;
                    let sent = start.elapsed();
                    let answer = tokio::time::timeout(PATIENCE, load.send(&mut connection, number)).await;
                    let failure = match answer {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(error.to_string()),
                        Err(_) => Some("no answer".to_owned()),
                    };
                    answers.push(Answer { due, sent, done: start.elapsed(), failure });
                }
            });
        }
        connections.join_all().await.into_iter().flatten().collect()
    }

    /// Sends one request, once: a client that tried again by itself would hide what is looked for.
    async fn send(&self, connection: &mut Option<SendRequest<Full<Bytes>>>, number: usize) -> Result<(), BoxError> {
        let body = if self.method == Method::GET { "" } else { "a body of some length" };
        let request = Request::builder()
            .method(&self.method)
            .uri("/some/path")
            .header(header::HOST, self.target.to_string())
            .header(NUMBER, number)
            .body(body.into())?;
        // It is put back only if all went well.
        let mut sender = match connection.take() {
            Some(mut sender) => match sender.ready().await {
                Ok(()) => sender,
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        *connection = Some(sender);
        if status == 200 { Ok(()) } else { Err(status.to_string().into()) }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, BoxError> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
