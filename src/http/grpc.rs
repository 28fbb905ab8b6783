//! What gRPC says about a call, in the head of the answer or behind its body.

use super::seldom;
use crate::backend::Outcome;
use http::{HeaderMap, HeaderName, HeaderValue, header};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The code of a server that cannot serve now.
pub(super) const UNAVAILABLE: u32 = 14;

/// Whether these are the headers of a gRPC message: `application/grpc`, with or without `+proto` or the like.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes()).unwrap_or_default();
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The status in a head, or in trailers, if there is one; one that is no number is unknown (2).
pub(super) fn status(headers: &HeaderMap) -> Option<u32> {
    let status = seldom::get(headers, &GRPC_STATUS)?;
    Some(status.to_str().ok().and_then(|status| status.parse().ok()).unwrap_or(2))
}

/// Makes these the head of an answer that is all trailers, and says that the time is over.
pub(super) fn deadline_exceeded(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from_static("4"));
}

/// Whose fault a status is. A call that ends without one has not ended well.
pub(super) fn outcome(status: Option<u32>) -> Outcome {
    match status {
        Some(0) => Outcome::Success,
        // Deadline exceeded.
        Some(4) => Outcome::Timeout,
        // Resource exhausted.
        Some(8) => Outcome::Overload,
        // Unknown, internal, unavailable, data loss; and what no server should send.
        Some(2 | 13..=15 | 17..) | None => Outcome::BackendFault,
        // What was asked for, by whom, or how, was wrong; or the caller gave up.
        Some(1 | 3 | 5..=7 | 9..=12 | 16) => Outcome::ClientFault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_grpc() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(is_grpc(&headers), is, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_status_says_whose_fault_it_is() {
        use Outcome::*;
        let outcomes: Vec<_> = (0..=17).map(|code| outcome(Some(code))).collect();
        let expected = [
            Success,
            ClientFault,
            BackendFault,
            ClientFault,
            Timeout,
            ClientFault,
            ClientFault,
            ClientFault,
            Overload,
            ClientFault,
            ClientFault,
            ClientFault,
            ClientFault,
            BackendFault,
            BackendFault,
            BackendFault,
            ClientFault,
            BackendFault,
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(outcome(None), BackendFault);
        let garbage = HeaderMap::from_iter([(GRPC_STATUS, "fine".parse().unwrap())]);
        assert_eq!((status(&garbage), status(&HeaderMap::new())), (Some(2), None));
    }
}
