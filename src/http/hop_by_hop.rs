use http::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};

/// Whether a header speaks to the next hop only (RFC 9110 §7.6.1), beside those that `Connection` names.
pub(super) fn is_for_the_next_hop(name: &HeaderName) -> bool {
    is_name_for_the_next_hop(name.as_str())
}

pub(super) fn is_name_for_the_next_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// A `Connection` header that is no list of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Removes what must not cross to the next hop. Of no use where there is [nothing of that kind](is_for_the_next_hop).
///
/// The whole nomination is read before anything is removed, and nothing of what frames or addresses the message can be
/// nominated away.
pub(super) fn strip(headers: &mut HeaderMap) -> Result<(), Malformed> {
    let nominated = nominated(headers).collect::<Result<_, _>>()?;
    remove(headers, count(headers), nominated);
    Ok(())
}

/// The same of an answer: what a backend nominates badly is not the client's business, and spares nothing of the rest.
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    let count = count(headers);
    if count > 0 {
        let nominated = nominated(headers).flatten().collect();
        remove(headers, count, nominated);
    }
}

/// How many names there are for the next hop only.
fn count(headers: &HeaderMap) -> usize {
    headers.keys().filter(|name| is_for_the_next_hop(name)).count()
}

fn remove(headers: &mut HeaderMap, count: usize, nominated: Vec<HeaderName>) {
    let mut left = count - usize::from(headers.remove(header::CONNECTION).is_some());
    // Mostly that was all.
    let trailers = left > 0 && asks_for_trailers(headers);
    while left > 0
        && let Some(name) = headers.keys().find(|name| is_for_the_next_hop(name)).cloned()
    {
        headers.remove(name);
        left -= 1;
    }
    for name in nominated {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn nominated(headers: &HeaderMap) -> impl Iterator<Item = Result<HeaderName, Malformed>> {
    let lines = headers.get_all(header::CONNECTION).iter();
    let tokens = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let about_connection = |token: &&[u8]| {
        token.is_empty() || token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive")
    };
    let stays = |name: &HeaderName| *name == header::HOST || *name == header::CONTENT_LENGTH || *name == header::TE;
    tokens
        .filter(move |token| !about_connection(token))
        .map(|token| HeaderName::from_bytes(token).map_err(|_| Malformed))
        .filter(move |name| !name.as_ref().is_ok_and(stays))
}

/// `TE` is for the next hop, except that `trailers` asks the whole way (RFC 9110 §10.1.4), and gRPC needs it.
fn asks_for_trailers(headers: &HeaderMap) -> bool {
    let asks = |line: &HeaderValue| {
        line.as_bytes().split(|&byte| byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    headers.get_all(header::TE).iter().any(asks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_for_the_next_hop_is_removed_and_the_rest_stays() {
        let mut seen = headers(&[
            ("connection", "close, X-One"),
            ("connection", "x-two ,"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip, Trailers"),
            ("trailer", "x-sum"),
        ]);
        strip(&mut seen).unwrap();
        assert_eq!(seen, headers(&[("x-three", "3"), ("te", "trailers"), ("trailer", "x-sum")]));
    }

    #[test]
    fn framing_and_address_cannot_be_nominated_away() {
        let mut seen = headers(&[
            ("connection", "host, content-length, te"),
            ("host", "a"),
            ("content-length", "3"),
            ("te", "trailers"),
        ]);
        strip(&mut seen).unwrap();
        assert_eq!(seen, headers(&[("host", "a"), ("content-length", "3"), ("te", "trailers")]));
    }

    #[test]
    fn te_without_trailers_is_removed() {
        let mut seen = headers(&[("te", "gzip")]);
        strip(&mut seen).unwrap();
        assert!(seen.is_empty());
    }

    #[test]
    fn a_malformed_nomination_changes_nothing() {
        let before = headers(&[("connection", "x y"), ("x-one", "1")]);
        let mut seen = before.clone();
        assert_eq!(strip(&mut seen), Err(Malformed));
        assert_eq!(seen, before);
    }

    #[test]
    fn a_malformed_nomination_in_an_answer_spares_nothing_of_the_rest() {
        let mut seen = headers(&[
            ("connection", "x-one, x y"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x", "3"),
        ]);
        strip_answer(&mut seen);
        assert_eq!(seen, headers(&[("x", "3")]));
    }
}
