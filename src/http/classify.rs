use super::{
    AtEndOfBody, Silent, Stalled,
    deadline::{DeadlineExceeded, ShareExceeded},
    excused::Excused,
    grpc,
    transport::ConnectError,
};
use crate::{
    backend::Outcome,
    error::{find, is_local},
    feedback::{Classify, Fault, FeedbackLayer},
};
use http::{HeaderMap, Response, StatusCode, header};
use hyper_util::client::legacy;
use std::{error::Error, time::Duration};

/// What HTTP statuses, those of gRPC in heads and trailers, and the errors of hyper clients (ours, that of hyper-util,
/// tonic's channel) say about a backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpClassify;

impl HttpClassify {
    /// What an error says, be it instead of an answer or in the middle of its body.
    pub(super) fn fault(error: &(dyn Error + 'static)) -> Fault {
        // First what the client found out about its own side: inside may be an error of the caller's connection, which
        // looks like one of the backend's.
        if let Some(excused) = find::<Excused>(error) {
            return excused.judge(Self::fault);
        }
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_user) {
            return Fault::CANCELLED;
        }
        if find::<Silent>(error).is_some() || find::<Stalled>(error).is_some() {
            return Fault::TIMEOUT;
        }
        // Little time is the client's doing. Another backend may use what is left of it, if something is.
        if find::<ShareExceeded>(error).is_some() {
            return Fault::LOST;
        }
        if find::<DeadlineExceeded>(error).is_some() {
            return Fault::CANCELLED;
        }
        if is_local(error) {
            return Fault::LOCAL;
        }
        // Before the io error inside is asked: a connect that timed out sent nothing.
        let legacy = || find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect);
        if find::<ConnectError>(error).is_some() || legacy() {
            return Fault::CONNECT;
        }
        if let Some(error) = find::<h2::Error>(error) {
            return Self::http2_fault(error);
        }
        match find::<hyper::Error>(error) {
            Some(error) if error.is_timeout() => Fault::TIMEOUT,
            // The connection was closing before the request was on it. If the backend is gone, the next one will tell.
            Some(error) if error.is_canceled() || error.is_closed() => Fault { sent: false, ..Fault::UNKNOWN },
            // One route with an answer that is too large or malformed is not the end of the backend.
            Some(error) if error.is_parse() => Fault::UNKNOWN,
            Some(_) => Fault::RESET,
            None => Fault::of(error),
        }
    }

    /// One stream that ends is not the end of the connection, and a connection that is closed in good order (RFC 9113
    /// §6.8) is not the end of the backend.
    fn http2_fault(error: &h2::Error) -> Fault {
        match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => Fault { kind: Outcome::Overload, sent: false },
            Some(h2::Reason::NO_ERROR) => Fault::LOST,
            // As over HTTP/1.1: one route with an answer that is too large or malformed is not the end of the backend.
            Some(_) if error.is_reset() || error.is_library() => Fault::UNKNOWN,
            _ => Fault::RESET,
        }
    }
}

impl<B> Classify<Response<B>> for HttpClassify {
    fn response(&self, response: &Response<B>) -> Option<Outcome> {
        Some(match response.status() {
            StatusCode::TOO_MANY_REQUESTS => Outcome::Overload,
            StatusCode::SERVICE_UNAVAILABLE if response.headers().contains_key(header::RETRY_AFTER) => {
                Outcome::Overload
            }
            // Beyond 599 as well: what is of no class is taken for one of these (RFC 9110 §15).
            status if status.as_u16() >= 500 => Outcome::BackendFault,
            status if status.is_success() && grpc::is_grpc(response.headers()) => {
                // Else the trailers will tell.
                grpc::outcome(Some(grpc::status(response.headers())?))
            }
            status if status.is_client_error() => Outcome::ClientFault,
            _ => Outcome::Success,
        })
    }

    /// A `Retry-After` of a 503, in seconds. That of a 429 is for one client.
    fn rest(&self, response: &Response<B>) -> Option<Duration> {
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let after = response.headers().get(header::RETRY_AFTER)?;
        after.to_str().ok()?.parse().ok().map(Duration::from_secs)
    }

    fn error(&self, error: &(dyn Error + 'static)) -> Fault {
        Self::fault(error)
    }
}

/// What the end of an answer says that its head did not.
///
/// Of plain HTTP the status says all; of gRPC the trailers do. It is asked where [`Classify::response`] says nothing. A classifier
/// of one's own, which always says something, takes the defaults with an empty `impl`.
pub trait ClassifyEnd {
    /// Hears of the head of an answer of which only the end will tell whether it is good. Whoever hears of it is asked about the
    /// end of that answer and of no other.
    fn await_end<B>(&mut self, _response: &Response<B>) {}

    /// What the end says, with the trailers if there were some.
    fn end(&mut self, _trailers: Option<&HeaderMap>) -> Outcome {
        Outcome::Success
    }
}

impl ClassifyEnd for HttpClassify {
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Outcome {
        grpc::outcome(trailers.and_then(grpc::status))
    }
}

impl FeedbackLayer<HttpClassify, AtEndOfBody> {
    /// Feedback for HTTP: statuses are judged, and a request is complete at the end of the answer's body.
    pub fn http() -> Self {
        FeedbackLayer::new(HttpClassify).complete(AtEndOfBody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_stream_is_not_the_end_of_the_backend() {
        let fault = |reason: h2::Reason| HttpClassify::fault(&h2::Error::from(reason));
        assert_eq!(fault(h2::Reason::NO_ERROR), Fault::LOST);
        assert_eq!(fault(h2::Reason::REFUSED_STREAM), Fault { kind: Outcome::Overload, sent: false });
        assert_eq!(fault(h2::Reason::PROTOCOL_ERROR), Fault::RESET);
    }

    #[test]
    fn a_backend_that_another_client_cannot_reach_cannot_be_reached() {
        let executor = hyper_util::rt::TokioExecutor::new();
        let client = legacy::Client::builder(executor).build_http::<http_body_util::Empty<bytes::Bytes>>();
        // It speaks no TLS.
        let error = tokio_test::block_on(client.get("https://localhost".parse().unwrap())).unwrap_err();
        assert_eq!(HttpClassify::fault(&error), Fault::CONNECT);
    }

    #[test]
    fn a_backend_may_ask_to_be_left_alone_and_not_for_one_client() {
        for (status, after, rest) in [
            (503, "7", Some(7)),
            (503, "18446744073709551615", Some(u64::MAX)),
            (503, "18446744073709551616", None),
            (503, "-1", None),
            (503, "Fri, 20 Nov 2026 08:00:00 GMT", None),
            (429, "7", None),
            (200, "7", None),
        ] {
            let response = Response::builder().status(status).header("retry-after", after).body(()).unwrap();
            assert_eq!(HttpClassify.rest(&response), rest.map(Duration::from_secs), "{status} {after}");
        }
    }

    #[test]
    fn a_status_says_whose_fault_it_is() {
        for (status, outcome) in [
            (200, Outcome::Success),
            (304, Outcome::Success),
            (404, Outcome::ClientFault),
            (429, Outcome::Overload),
            (500, Outcome::BackendFault),
            (503, Outcome::BackendFault),
        ] {
            let response = Response::builder().status(status).body(()).unwrap();
            assert_eq!(HttpClassify.response(&response), Some(outcome), "{status}");
        }
        let busy = Response::builder().status(503).header("retry-after", "1").body(()).unwrap();
        assert_eq!(HttpClassify.response(&busy), Some(Outcome::Overload));
    }
}
