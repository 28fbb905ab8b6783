use super::{AtEndOfBody, ClassifyEnd, HttpClassify};
use crate::{
    backend::Outcome,
    feedback::{Classify, Fault, FeedbackLayer},
};
use http::{HeaderMap, Response};
use std::{error::Error, fmt, time::Duration};
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
pub struct TowerHttpClassify<C: ClassifyResponse> {
    classify: C,
    /// Of the answer whose end is awaited.
    end: Option<C::ClassifyEos>,
}

impl<C: ClassifyResponse> TowerHttpClassify<C> {
    fn new(classify: C) -> Self {
        Self { classify, end: None }
    }
}

/// For another answer.
impl<C: ClassifyResponse + Clone> Clone for TowerHttpClassify<C> {
    fn clone(&self) -> Self {
        Self::new(self.classify.clone())
    }
}

impl<C: ClassifyResponse + fmt::Debug> fmt::Debug for TowerHttpClassify<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TowerHttpClassify").field(&self.classify).finish()
    }
}

fn outcome<E>(result: Result<(), E>) -> Outcome {
    if result.is_ok() { Outcome::Success } else { Outcome::BackendFault }
}

impl<C: ClassifyResponse + Clone, B> Classify<Response<B>> for TowerHttpClassify<C> {
    fn response(&self, response: &Response<B>) -> Option<Outcome> {
        match self.classify.clone().classify_response(response) {
            // What it is content with may still be the client's fault, as a 404 is.
            ClassifiedResponse::Ready(Ok(())) if response.status().is_client_error() => Some(Outcome::ClientFault),
            ClassifiedResponse::Ready(result) => Some(outcome(result)),
            ClassifiedResponse::RequiresEos(_) => None,
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
    fn await_end<B>(&mut self, response: &Response<B>) {
        self.end = match self.classify.clone().classify_response(response) {
            ClassifiedResponse::RequiresEos(end) => Some(end),
            ClassifiedResponse::Ready(_) => None,
        };
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Outcome {
        self.end.take().map_or(Outcome::Success, |end| outcome(end.classify_eos(trailers)))
    }
}

impl<C: ClassifyResponse + Clone> FeedbackLayer<TowerHttpClassify<C>, AtEndOfBody> {
    /// Feedback for HTTP by a classifier of tower-http.
    pub fn tower_http(classifier: C) -> Self {
        FeedbackLayer::new(TowerHttpClassify::new(classifier)).complete(AtEndOfBody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_http::classify::{GrpcErrorsAsFailures, ServerErrorsAsFailures};

    #[test]
    fn what_it_calls_a_failure_is_the_backends_fault() {
        let classify = TowerHttpClassify::new(ServerErrorsAsFailures::new());
        for (status, expected) in [(200, Outcome::Success), (404, Outcome::ClientFault), (500, Outcome::BackendFault)] {
            let response = Response::builder().status(status).body(()).unwrap();
            assert_eq!(classify.response(&response), Some(expected), "{status}");
        }
    }

    fn status(status: &str) -> HeaderMap {
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])
    }

    #[test]
    fn what_only_the_end_tells_is_told_by_the_end() {
        let classify = TowerHttpClassify::new(GrpcErrorsAsFailures::new());
        let head = Response::new(());
        assert_eq!(classify.response(&head), None);
        for (code, expected) in [("0", Outcome::Success), ("13", Outcome::BackendFault)] {
            let mut classify = classify.clone();
            classify.await_end(&head);
            assert_eq!(classify.end(Some(&status(code))), expected, "{code}");
        }
        let mut in_head = Response::new(());
        *in_head.headers_mut() = status("14");
        assert_eq!(classify.response(&in_head), Some(Outcome::BackendFault));
    }

    /// Fails what ends without the trailer that the head has announced.
    #[derive(Clone, Debug)]
    struct Announced;

    #[derive(Clone, Debug)]
    struct Awaited(Option<String>);

    impl ClassifyResponse for Announced {
        type FailureClass = ();
        type ClassifyEos = Awaited;

        fn classify_response<B>(self, response: &Response<B>) -> ClassifiedResponse<(), Awaited> {
            let name = response.headers().get("trailer").map(|name| name.to_str().unwrap().to_owned());
            ClassifiedResponse::RequiresEos(Awaited(name))
        }

        fn classify_error<E: fmt::Display + 'static>(self, _: &E) {}
    }

    impl ClassifyEos for Awaited {
        type FailureClass = ();

        fn classify_eos(self, trailers: Option<&HeaderMap>) -> Result<(), ()> {
            let came = |name: &String| trailers.is_some_and(|trailers| trailers.contains_key(name));
            if self.0.as_ref().is_none_or(came) { Ok(()) } else { Err(()) }
        }

        fn classify_error<E: fmt::Display + 'static>(self, _: &E) {}
    }

    #[test]
    fn the_end_is_judged_by_what_its_own_head_has_said() {
        for (announced, expected) in [("grpc-status", Outcome::Success), ("x-sum", Outcome::BackendFault)] {
            let head = Response::builder().header("trailer", announced).body(()).unwrap();
            let mut classify = TowerHttpClassify::new(Announced);
            assert_eq!(classify.response(&head), None);
            classify.await_end(&head);
            assert_eq!(classify.end(Some(&status("0"))), expected, "{announced}");
        }
    }
}
