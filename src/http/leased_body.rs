use super::{ClassifyEnd, HttpClassify, ServedBy, orca};
use crate::{
    backend::{Lease, Outcome},
    error::{BoxError, root_cause},
    feedback::{Classify, Complete},
};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// An HTTP answer is complete at the end of its body, and says which backend it came from: [`ServedBy`].
///
/// What the backend tells about its load goes to the backend, and to nobody else: see [`orca`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AtEndOfBody;

impl<B: Body, C: Classify<Response<B>> + ClassifyEnd> Complete<Response<B>, C> for AtEndOfBody {
    type Response = Response<LeasedBody<B, C>>;

    fn complete(
        &self,
        mut lease: Lease,
        outcome: Option<Outcome>,
        mut response: Response<B>,
        mut classify: C,
    ) -> Self::Response {
        let now = Instant::now().into_std();
        match outcome {
            Some(outcome) => lease.answered(outcome, now),
            None => {
                classify.await_end(&response);
                lease.begun_answer(now);
            }
        }
        if let Some(report) = orca::take(response.headers_mut()) {
            lease.backend().reported(&report, now);
        }
        response.extensions_mut().insert(ServedBy::new(lease.backend().id().clone()));
        response.map(|inner| {
            let mut leased = Leased { inner, classify, lease: Some(lease), outcome };
            // Servers do not ask a body for frames that says it has none.
            if leased.inner.is_end_stream() {
                let outcome = outcome.unwrap_or_else(|| leased.classify.end(None));
                complete(&mut leased.lease, outcome, now);
            }
            LeasedBody { leased: Box::pin(leased) }
        })
    }
}

/// A response body that holds the lease of its request.
///
/// The lease ends with the last frame, with the trailers, with an error, which is a failure of the transport unless
/// the answer was one already, or, as cancelled, when the body is dropped before its end.
#[derive(Debug)]
pub struct LeasedBody<B, C = HttpClassify> {
    // Apart: an answer is moved some forty times on its way out, and one allocation costs less than that.
    leased: Pin<Box<Leased<B, C>>>,
}

pin_project! {
    #[derive(Debug)]
    struct Leased<B, C> {
        #[pin]
        inner: B,
        classify: C,
        lease: Option<Lease>,
        // `None` where the end will tell.
        outcome: Option<Outcome>,
    }
}

fn complete(lease: &mut Option<Lease>, outcome: Outcome, now: std::time::Instant) {
    if let Some(lease) = lease.take() {
        lease.complete(outcome, now);
    }
}

impl<B, C> Body for LeasedBody<B, C>
where
    B: Body,
    B::Error: Into<BoxError>,
    C: Classify<Response<B>> + ClassifyEnd,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.leased.as_mut().project();
        let mut frame = ready!(this.inner.as_mut().poll_frame(cx)).map(|frame| frame.map_err(Into::into));
        let trailers = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut());
        if let (Some(report), Some(lease)) = (trailers.and_then(orca::take), &this.lease) {
            lease.backend().reported(&report, Instant::now().into_std());
        }
        match &frame {
            // Nothing follows trailers, and servers do not ask whether something does.
            Some(Ok(frame)) if !frame.is_trailers() && !this.inner.is_end_stream() => {}
            Some(Ok(_)) | None => {
                let trailers = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref());
                let outcome = this.outcome.unwrap_or_else(|| this.classify.end(trailers));
                complete(this.lease, outcome, Instant::now().into_std());
            }
            Some(Err(error)) => {
                if let Some(lease) = this.lease.take() {
                    // A server that refuses a request closes on the client in the middle of it, and of its own refusal.
                    // That was judged by its status; breaking off adds nothing.
                    let refused = this.outcome.filter(|outcome| *outcome != Outcome::Success);
                    let kind = refused.unwrap_or_else(|| this.classify.error(&**error).kind);
                    lease.fail(kind, &root_cause(&**error), Instant::now().into_std());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.leased.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.leased.inner.size_hint()
    }
}
