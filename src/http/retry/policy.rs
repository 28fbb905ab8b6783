use super::RetryBudget;
use crate::{
    backend::{BackendId, Outcome},
    error::{BoxError, Unavailable, find},
    feedback::ProxyError,
    http::{ServedBy, deadline::ShareExceeded, grpc, seldom},
    rng::Rng,
};
use http::{HeaderName, Method, Response, StatusCode, header, request};
use std::time::Duration;

/// On every attempt but the first: its number, from 1. Who gets a request that has one does not try again on its own
/// account, or the attempts of every hop would multiply.
pub(in crate::http) const ATTEMPT: HeaderName = HeaderName::from_static("x-retry-attempt");

/// A client would rather be told than wait longer.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a gRPC server wants to be left alone, in milliseconds; below nothing, for good.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Which requests are tried again, how often and when. Pure: what was answered goes in, and chance is an argument.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) retries: u32,
    pub(super) any_method: bool,
    pub(super) body_limit: usize,
    pub(super) backoff: (Duration, Duration),
    pub(super) budget: RetryBudget,
}

/// Why an attempt is no answer to the request, and on whose part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Failure {
    pub(super) backend: BackendId,
    /// The backend may have seen something of it.
    sent: bool,
    /// It is no use to ask the same one again: there was no answer in time, or it wants to be left alone.
    pub(super) others_only: bool,
    /// What a gRPC server said about another attempt; `Err` where it wants none.
    pushback: Result<Option<Duration>, ()>,
}

impl Failure {
    /// What failed, if it is something that another backend may do better.
    pub(in crate::http) fn of<R>(answer: &Result<Response<R>, BoxError>) -> Option<Self> {
        match answer {
            Ok(response) => Self::of_response(response),
            Err(error) => find::<ProxyError>(&**error).and_then(Self::of_error),
        }
    }

    fn of_error(error: &ProxyError) -> Option<Self> {
        // The caller is gone, or this process is short of something: another backend changes neither.
        let ours = error.kind() == Outcome::Cancelled;
        let others_only = error.kind() == Outcome::Timeout || find::<ShareExceeded>(error).is_some();
        (!ours).then(|| Self { backend: error.backend().clone(), sent: error.sent(), others_only, pushback: Ok(None) })
    }

    fn of_response<R>(response: &Response<R>) -> Option<Self> {
        use StatusCode as S;
        // What a server says that cannot serve now. A 500 is an answer: the same code runs everywhere.
        let cannot = matches!(response.status(), S::BAD_GATEWAY | S::SERVICE_UNAVAILABLE | S::GATEWAY_TIMEOUT);
        if !cannot && grpc::status(response.headers()) != Some(grpc::UNAVAILABLE) {
            return None;
        }
        let backend = response.extensions().get::<ServedBy>()?.backend().clone();
        let pushback = response.headers().get(PUSHBACK).map(|told| told.to_str().ok()?.parse().ok());
        let pushback = match pushback {
            None => Ok(None),
            Some(Some(millis)) => Ok(Some(Duration::from_millis(millis))),
            Some(None) => Err(()),
        };
        // Others may serve at once what this one wants to serve later.
        let others_only = response.headers().contains_key(header::RETRY_AFTER);
        Some(Self { backend, sent: true, others_only, pushback })
    }
}

impl Policy {
    /// Whether a request could be tried again at all: then what is needed for that is kept.
    pub(super) fn covers(&self, head: &request::Parts) -> bool {
        self.retries > 0 && !seldom::has(&head.headers, &ATTEMPT)
    }

    /// How many attempts there may be after `made` others, where each of them runs out of time, and so was sent.
    pub(super) fn attempts_left(&self, method: &Method, made: u32) -> u32 {
        if self.may_be_sent_again(method) { self.retries.saturating_add(1).saturating_sub(made).max(1) } else { 1 }
    }

    fn may_be_sent_again(&self, method: &Method) -> bool {
        method.is_idempotent() || self.any_method
    }

    /// How long to wait before the attempt that follows `made` others after `failure`; `None` where there is none.
    pub(super) fn delay(&self, failure: &Failure, method: &Method, made: u32, seed: u64) -> Option<Duration> {
        if made > self.retries || (failure.sent && !self.may_be_sent_again(method)) {
            return None;
        }
        match failure.pushback {
            Err(()) => None,
            // Who wants to be left alone for so long has said no.
            Ok(Some(told)) => Some(told).filter(|told| *told <= LONGEST),
            // Nobody was bothered yet, so nobody is by the next one.
            Ok(None) if !failure.sent => Some(Duration::ZERO),
            Ok(None) => {
                // Full jitter: those who failed together do not come back together.
                let (base, cap) = self.backoff;
                let ceiling = base.saturating_mul(1 << (made - 1).min(16)).min(cap);
                Some(ceiling.mul_f64(Rng::new(seed).unit()))
            }
        }
    }
}

/// Whether there was nobody to try.
pub(in crate::http) fn is_unavailable<R>(answer: &Result<R, BoxError>) -> bool {
    answer.as_ref().is_err_and(|error| find::<Unavailable>(&**error).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let backoff = (Duration::from_millis(25), Duration::from_millis(250));
        Policy { retries: 9, any_method: false, body_limit: 0, backoff, budget: RetryBudget::default() }
    }

    fn failure(sent: bool) -> Failure {
        Failure { backend: "a".into(), sent, others_only: false, pushback: Ok(None) }
    }

    #[test]
    fn what_was_sent_is_sent_again_only_if_that_is_the_same() {
        for (method, again) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::OPTIONS, true),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::from_bytes(b"BREW").unwrap(), false),
        ] {
            assert_eq!(policy().delay(&failure(true), &method, 1, 0).is_some(), again, "{method}");
            assert_eq!(policy().delay(&failure(false), &method, 1, 0), Some(Duration::ZERO), "{method}");
            let any = Policy { any_method: true, ..policy() };
            assert!(any.delay(&failure(true), &method, 1, 0).is_some(), "{method}");
        }
        assert_eq!(policy().delay(&failure(false), &Method::GET, 10, 0), None);
    }

    #[test]
    fn the_attempts_that_are_left_are_those_that_may_follow_one_that_was_sent() {
        let left = |method, made| policy().attempts_left(&method, made);
        assert_eq!(
            (left(Method::GET, 0), left(Method::GET, 1), left(Method::GET, 9), left(Method::POST, 0)),
            (10, 9, 1, 1)
        );
        let any = Policy { any_method: true, retries: u32::MAX, ..policy() };
        assert_eq!(any.attempts_left(&Method::POST, 0), u32::MAX);
    }

    #[test]
    fn the_delay_is_anything_up_to_a_ceiling_that_doubles() {
        for (made, ceiling) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (9, 250)] {
            let delays = (0..1_000).map(|seed| policy().delay(&failure(true), &Method::GET, made, seed).unwrap());
            let (least, most) = delays.fold((Duration::MAX, Duration::ZERO), |(a, b), d| (a.min(d), b.max(d)));
            let ceiling = Duration::from_millis(ceiling);
            assert!(least < ceiling / 20 && most <= ceiling && most > ceiling * 19 / 20, "{made}: {least:?} {most:?}");
        }
    }

    #[test]
    fn a_server_says_when_it_may_be_asked_again() {
        for (told, delay) in
            [("120", Some(Duration::from_millis(120))), ("-1", None), ("soon", None), ("18446744073709551615", None)]
        {
            let mut response = Response::builder().status(503).header(PUSHBACK, told).body(()).unwrap();
            response.extensions_mut().insert(ServedBy::new("a".into()));
            let failure = Failure::of(&Ok(response)).unwrap();
            assert_eq!(policy().delay(&failure, &Method::GET, 1, 0), delay, "{told}");
        }
    }

    #[test]
    fn an_answer_is_an_answer() {
        for (status, failed) in
            [(200, false), (404, false), (429, false), (500, false), (502, true), (503, true), (504, true)]
        {
            let mut response = Response::builder().status(status).body(()).unwrap();
            response.extensions_mut().insert(ServedBy::new("a".into()));
            assert_eq!(Failure::of(&Ok(response)).is_some(), failed, "{status}");
        }
        assert_eq!(Failure::of::<()>(&Err("something else".into())), None);
    }
}
