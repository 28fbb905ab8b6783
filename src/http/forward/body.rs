use crate::http::trailers;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// A body as it came, but for what may not stand in its trailers: that is left out.
    #[derive(Clone, Debug, Default)]
    pub struct ForwardBody<B> {
        #[pin]
        inner: B,
        of: Of,
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Of {
    #[default]
    Request,
    Answer,
}

impl<B> ForwardBody<B> {
    pub(super) fn new(inner: B, of: Of) -> Self {
        Self { inner, of }
    }
}

impl<B: Body> Body for ForwardBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let mut frame = this.inner.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut frame {
            match this.of {
                Of::Request => trailers::clean_request(frame),
                Of::Answer => trailers::clean_answer(frame),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
