//! What may not stand in trailers: servers may take it for what is said in the head (RFC 9110 §6.5.1).

use super::{forward::is_spoken_for, hop_by_hop::is_for_the_next_hop};
use http::header::{self, HeaderName};
use http_body::Frame;

/// Leaves out of a request's trailers what is for one hop only, or says where it ends, whom it is for or who asks.
pub(super) fn clean_request<D>(frame: &mut Frame<D>) {
    let may_not = |name: &HeaderName| {
        is_for_the_next_hop(name) || is_spoken_for(name.as_str()) || *name == header::HOST || *name == header::VIA
    };
    remove(frame, may_not);
}

/// Leaves out of an answer's trailers what is for one hop only, or says where it ends.
pub(super) fn clean_answer<D>(frame: &mut Frame<D>) {
    remove(frame, |name| is_for_the_next_hop(name) || *name == header::CONTENT_LENGTH);
}

fn remove<D>(frame: &mut Frame<D>, may_not: impl Fn(&HeaderName) -> bool) {
    let Some(trailers) = frame.trailers_mut() else { return };
    while let Some(name) = trailers.keys().find(|name| may_not(name)).cloned() {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn left(clean: fn(&mut Frame<()>)) -> Vec<String> {
        const NAMES: [&str; 8] =
            ["x-sum", "grpc-status", "connection", "te", "content-length", "host", "x-forwarded-for", "x_real_ip"];
        let lines = NAMES.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
        let mut frame = Frame::trailers(HeaderMap::from_iter(lines));
        clean(&mut frame);
        let mut names: Vec<_> = frame.trailers_ref().unwrap().keys().map(HeaderName::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn what_may_not_stand_there_is_left_out() {
        assert_eq!(left(clean_request), ["grpc-status", "x-sum"]);
        assert_eq!(left(clean_answer), ["grpc-status", "host", "x-forwarded-for", "x-sum", "x_real_ip"]);
    }
}
