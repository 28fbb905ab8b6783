use crate::http::hop_by_hop::is_name_for_the_next_hop;
use http::{HeaderMap, header::HeaderName};

/// Which of the headers that need something done about them a request has: by one look at each name, which costs less than
/// to ask for every one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Something for the next hop only.
    pub(super) hop: bool,
    /// Something about the client that may be the client's own claim.
    pub(super) claims: bool,
    pub(super) twins: bool,
    pub(super) expect: bool,
    pub(super) length: bool,
    pub(super) via: bool,
}

impl Seen {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "expect" => seen.expect = true,
                "via" => seen.via = true,
                "content-length" => seen.length = true,
                "forwarded" | "x-real-ip" => seen.claims = true,
                name if is_name_for_the_next_hop(name) => seen.hop = true,
                name => seen.twins |= is_twin(name),
            }
        }
        seen
    }
}

/// What is written here, or frames the message, and is the same to a server that makes variables of names (as CGI does).
const SPOKEN_FOR: [&str; 6] =
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "content-length", "transfer-encoding"];

/// Whether some server takes this name for one of ours: it has `_` where ours has `-`.
fn is_twin(name: &str) -> bool {
    // Most names are told by their first letter.
    matches!(name.as_bytes(), [b'x' | b'c' | b't', .., _]) && name.contains('_') && {
        let same = |(one, other): (u8, u8)| one == other || (one == b'_' && other == b'-');
        SPOKEN_FOR.iter().any(|ours| ours.len() == name.len() && name.bytes().zip(ours.bytes()).all(same))
    }
}

/// Whether this is written here or frames the message, or some server takes it for that.
pub(in crate::http) fn is_spoken_for(name: &str) -> bool {
    name == "forwarded" || SPOKEN_FOR.contains(&name) || is_twin(name)
}

/// Removes all twins.
pub(super) fn remove_twins(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_twin(name.as_str())).cloned() {
        headers.remove::<HeaderName>(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_told_from_ours_and_from_others() {
        for twin in ["x_forwarded_for", "x-forwarded_proto", "x_real-ip", "content_length", "transfer_encoding"] {
            assert!(is_twin(twin), "{twin}");
        }
        for other in ["x-forwarded-for", "content-length", "x_request_id", "content_type", "x", ""] {
            assert!(!is_twin(other), "{other}");
        }
    }
}
