use super::{AtEndOfBody, ClassifyEnd, HttpClassify};
use crate::{
    backend::Outcome,
    feedback::{Classify, Fault, FeedbackLayer},
};
use http::{HeaderMap, Response};
use std::{error::Error, time::Duration};
use tower_http::classify::{ClassifiedResponse, ClassifyEos, ClassifyResponse};

/// Judges backends by a classifier of [tower-http](tower_http::classify): what that calls a failure is a
/// [`BackendFault`](Outcome::BackendFault), be it seen in the head or at the end of an answer. Errors are judged as
/// [`HttpClassify`] judges them, which knows a refused connection from a broken one.
///
/// ```
/// use tower_balancer::{feedback::FeedbackLayer, http::TowerHttpClassify};
/// use tower_http::classify::StatusInRangeAsFailures;
///
/// let layer = FeedbackLayer::tower_http(StatusInRangeAsFailures::new(400..=599));
/// # let _: FeedbackLayer<TowerHttpClassify<StatusInRangeAsFailures>, _> = layer;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TowerHttpClassify<C>(C);

fn outcome<E>(result: Result<(), E>) -> Outcome {
    if result.is_ok() { Outcome::Success } else { Outcome::BackendFault }
}

impl<C: ClassifyResponse + Clone, B> Classify<Response<B>> for TowerHttpClassify<C> {
    fn response(&self, response: &Response<B>) -> Outcome {
        match self.0.clone().classify_response(response) {
            // What it is content with may still be the client's fault, as a 404 is.
            ClassifiedResponse::Ready(Ok(())) if response.status().is_client_error() => Outcome::ClientFault,
            ClassifiedResponse::Ready(result) => outcome(result),
            ClassifiedResponse::RequiresEos(_) => Outcome::Success,
        }
    }

    fn rest(&self, response: &Response<B>) -> Option<Duration> {
        HttpClassify.rest(response)
    }

    fn error(&self, error: &(dyn Error + 'static)) -> Fault {
        HttpClassify::fault(error)
    }
}

impl<C: ClassifyResponse + Clone> ClassifyEnd for TowerHttpClassify<C> {
    fn awaits_end<B>(&self, response: &Response<B>) -> bool {
        matches!(self.0.clone().classify_response(response), ClassifiedResponse::RequiresEos(_))
    }

    fn end(&self, trailers: Option<&HeaderMap>) -> Outcome {
        // Of the head only that is known which says that the end will tell.
        match self.0.clone().classify_response(&Response::new(())) {
            ClassifiedResponse::RequiresEos(end) => outcome(end.classify_eos(trailers)),
            ClassifiedResponse::Ready(result) => outcome(result),
        }
    }
}

impl<C: ClassifyResponse + Clone> FeedbackLayer<TowerHttpClassify<C>, AtEndOfBody> {
    /// Feedback for HTTP by a classifier of tower-http.
    pub fn tower_http(classifier: C) -> Self {
        FeedbackLayer::new(TowerHttpClassify(classifier)).complete(AtEndOfBody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_http::classify::{GrpcErrorsAsFailures, ServerErrorsAsFailures};

    #[test]
    fn what_it_calls_a_failure_is_the_backends_fault() {
        let classify = TowerHttpClassify(ServerErrorsAsFailures::new());
        for (status, expected) in [(200, Outcome::Success), (404, Outcome::ClientFault), (500, Outcome::BackendFault)] {
            let response = Response::builder().status(status).body(()).unwrap();
            assert_eq!(classify.response(&response), expected, "{status}");
            assert!(!classify.awaits_end(&response));
        }
    }

    #[test]
    fn what_only_the_end_tells_is_told_by_the_end() {
        let classify = TowerHttpClassify(GrpcErrorsAsFailures::new());
        let status = |status: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
        assert!(classify.awaits_end(&Response::new(())));
        assert_eq!(classify.end(Some(&status("0"))), Outcome::Success);
        assert_eq!(classify.end(Some(&status("13"))), Outcome::BackendFault);
        let mut in_head = Response::new(());
        *in_head.headers_mut() = status("14");
        assert!(!classify.awaits_end(&in_head));
        assert_eq!(classify.response(&in_head), Outcome::BackendFault);
    }
}
