use super::{
    error::ConnectError,
    host::{Host, Wire},
};
use crate::{error::BoxError, sync::locked};
use http_body::Body;
use hyper::{
    client::conn::http1::{self, SendRequest},
    rt::Executor,
};
use hyper_util::rt::TokioExecutor;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// What is read of an answer at a time, and the largest head that it may have. hyper's own 400 KiB are held for each client
/// that reads slowly, twice. Of how many lines that may be is left at hyper's 100: for more it allocates at every look at a head.
const BUFFER: usize = 64 * 1024;

/// A connection, whole: who holds it is the only one on it. It stays in its box, wherever it goes.
pub(super) struct Connection<B> {
    pub(super) sender: SendRequest<B>,
    /// It has brought an answer.
    pub(super) served: bool,
    idle_since: Instant,
    /// Where it goes when the body that holds it is at its end.
    pub(super) home: Option<Arc<Host<B>>>,
}

impl<B> Connection<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    pub(super) async fn over(stream: Wire) -> Result<Box<Self>, ConnectError> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(BUFFER).handshake(stream).await.map_err(ConnectError::new)?;
        TokioExecutor::new().execute(async move {
            // What goes wrong, the request on it is told.
            _ = connection.with_upgrades().await;
        });
        Ok(Box::new(Self { sender, served: false, idle_since: Instant::now(), home: None }))
    }
}

/// Connections without a request, the one that was used last on top: in quiet times, those below grow old and are closed.
pub(super) struct Idle<B> {
    stack: Mutex<VecDeque<Box<Connection<B>>>>,
}

impl<B> Idle<B> {
    pub(super) fn new() -> Self {
        Self { stack: Mutex::default() }
    }

    /// The first from above that can take a request. One that is not ready may still send the body of the last, and stays.
    pub(super) fn pop(&self, timeout: Duration) -> Option<Box<Connection<B>>> {
        let now = Instant::now();
        let mut stack = locked(&self.stack);
        for at in (0..stack.len()).rev() {
            let connection = &stack[at];
            if now - connection.idle_since >= timeout {
                stack.drain(..=at);
                break;
            }
            if connection.sender.is_ready() {
                return stack.remove(at);
            }
            if connection.sender.is_closed() {
                stack.remove(at);
            }
        }
        None
    }

    /// Keeps one more; where that would be more than `most`, the one that was used longest ago has to go.
    pub(super) fn push(&self, mut connection: Box<Connection<B>>, most: usize, timeout: Duration) {
        if most == 0 || connection.sender.is_closed() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut stack = locked(&self.stack);
        purge(&mut stack, connection.idle_since, timeout);
        if stack.len() >= most {
            stack.pop_front();
        }
        stack.push_back(connection);
    }

    /// Closes those that are too old, and tells whether there are others.
    pub(super) fn purge(&self, now: Instant, timeout: Duration) -> bool {
        let mut stack = locked(&self.stack);
        purge(&mut stack, now, timeout);
        !stack.is_empty()
    }
}

/// The oldest are at the front.
fn purge<B>(stack: &mut VecDeque<Box<Connection<B>>>, now: Instant, timeout: Duration) {
    while stack.front().is_some_and(|oldest| now - oldest.idle_since >= timeout || oldest.sender.is_closed()) {
        stack.pop_front();
    }
}
