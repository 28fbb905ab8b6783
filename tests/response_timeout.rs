//! The response timeout is the backend's alone, in paused time.

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, StreamBody};
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_balancer::http::{ResponseTimeoutLayer, Silent, TimedBody};

const TIMEOUT: Duration = Duration::from_secs(30);

/// What becomes of a request with this body, and after how many seconds, where the backend reads all of it and
/// answers `after` that.
async fn outcome<B>(body: B, after: Duration) -> (bool, u64)
where
    B: Body<Error = Infallible>,
{
    let start = Instant::now();
    let backend = service_fn(async |request: Request<TimedBody<B>>| {
        let _ = request.into_body().collect().await;
        sleep(after).await;
        Ok::<_, BoxError>(())
    });
    let result = ResponseTimeoutLayer::new(TIMEOUT).layer(backend).oneshot(Request::new(body)).await;
    assert!(result.as_ref().err().is_none_or(|error| error.is::<Silent>()));
    (result.is_ok(), start.elapsed().as_secs())
}

/// A body of so many pieces, each of which the client takes a minute to send.
fn slow_client(pieces: u32) -> impl Body<Data = Bytes, Error = Infallible> {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..pieces {
            sleep(Duration::from_secs(60)).await;
            let _ = send.send(Bytes::from_static(b"piece")).await;
        }
    });
    StreamBody::new(futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receive))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_backend_has_so_long_from_the_start_where_there_is_no_body() {
    assert_eq!(outcome(Empty::<Bytes>::new(), Duration::from_secs(29)).await, (true, 29));
    assert_eq!(outcome(Empty::<Bytes>::new(), Duration::from_secs(31)).await, (false, 30));
}

#[tokio::test(start_paused = true)]
async fn the_clock_stands_still_while_the_client_sends_and_starts_anew_with_the_end_of_the_body() {
    assert_eq!(outcome(slow_client(5), Duration::from_secs(29)).await, (true, 5 * 60 + 29));
    assert_eq!(outcome(slow_client(5), Duration::from_secs(31)).await, (false, 5 * 60 + 30));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_stops_reading_is_silent() {
    let start = Instant::now();
    let backend = service_fn(async |request: Request<TimedBody<_>>| {
        let mut body = std::pin::pin!(request.into_body());
        let _ = body.frame().await;
        std::future::pending::<Result<(), BoxError>>().await
    });
    let request = Request::new(slow_client(2));
    assert!(ResponseTimeoutLayer::new(TIMEOUT).layer(backend).oneshot(request).await.is_err());
    assert_eq!(start.elapsed().as_secs(), 60 + 30);
}
