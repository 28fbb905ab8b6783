//! A request on its way through its pool.

use super::{body::Body, limit::Limit, pressing::Upload, responses::Part};
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tower::Service;
use tower_balancer::{ReverseProxy, proxy::ResponseFuture, strategy::AnyStrategy};

type Proxy = ReverseProxy<AnyStrategy, Upload>;

pin_project! {
    /// An answer to come. It is moved with every request, so it holds no more than most need.
    pub struct Answering {
        #[pin]
        stage: Stage,
        // Where it counts, and since when it is waited for.
        counts: Option<(Arc<Part>, Instant)>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage {
        Called { #[pin] inner: ResponseFuture<AnyStrategy, Upload>, place: Option<OwnedSemaphorePermit> },
        // For a place, or for a backend.
        Waiting { waiting: Pin<Box<dyn Future<Output = Response<Body>> + Send>> },
        Told { response: Option<Response<Body>> },
    }
}

impl Answering {
    /// By ourselves.
    pub fn told(response: Response<Body>) -> Self {
        Self { stage: Stage::Told { response: Some(response) }, counts: None }
    }

    /// By `proxy`, as soon as there is a place within `limit`. What comes of it is one of `counts`.
    pub fn by(mut proxy: Proxy, limit: Option<&Arc<Limit>>, request: Request<Upload>, counts: &Arc<Part>) -> Self {
        let counts = Some((Arc::clone(counts), Instant::now()));
        let place = limit.and_then(|limit| limit.enter());
        let has_place = limit.is_none() || place.is_some();
        // Who is not ready hears of it again from whoever waits.
        if has_place && proxy.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready() {
            return Self { stage: Stage::Called { inner: proxy.call(request), place }, counts };
        }
        let limit = limit.filter(|_| !has_place).cloned();
        Self { stage: Stage::Waiting { waiting: Box::pin(wait(proxy, limit, place, request)) }, counts }
    }
}

async fn wait(
    mut proxy: Proxy,
    limit: Option<Arc<Limit>>,
    mut place: Option<OwnedSemaphorePermit>,
    request: Request<Upload>,
) -> Response<Body> {
    if let Some(limit) = limit {
        place = limit.wait().await;
        if place.is_none() {
            return Body::overloaded();
        }
    }
    let Ok(()) = poll_fn(|cx| proxy.poll_ready(cx)).await;
    let Ok(response) = proxy.call(request).await;
    response.map(|body| Body::of(body, place))
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.stage.project() {
            StageProjection::Called { inner, place } => {
                let Ok(response) = ready!(inner.poll(cx));
                response.map(|body| Body::of(body, place.take()))
            }
            StageProjection::Waiting { waiting } => ready!(waiting.as_mut().poll(cx)),
            StageProjection::Told { response } => response.take().expect("polled after it was ready"),
        };
        if let Some((counts, since)) = this.counts {
            counts.count(&response, since.elapsed());
        }
        Poll::Ready(Ok(response))
    }
}
