use crate::error::{BoxError, Unavailable};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// The response of a [`Balancer`](super::Balancer).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Called { #[pin] inner: F },
        Unavailable { error: Unavailable },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn called(inner: F) -> Self {
        Self { state: State::Called { inner } }
    }

    pub(super) fn unavailable(error: Unavailable) -> Self {
        Self { state: State::Unavailable { error } }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
{
    type Output = Result<R, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { inner } => inner.poll(cx).map_err(Into::into),
            StateProjection::Unavailable { error } => Poll::Ready(Err((*error).into())),
        }
    }
}
