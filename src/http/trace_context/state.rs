use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a list may have of members.
const MEMBERS: usize = 32;
/// And a line of ours of characters: as many as everyone has to pass on.
const LENGTH: usize = 512;

/// Takes the `tracestate` out of `headers`: all its lines as one. One that breaks the rules (level 1, §3.3), or is longer than
/// need be passed on, says nothing.
pub(super) fn take(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut lines = Vec::new();
    if let http::header::Entry::Occupied(state) = headers.entry(TRACESTATE) {
        lines.extend(state.remove_entry_mult().1);
    }
    let members = || lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // Empty members are allowed and say nothing. A client may send thousands, which nobody compares with each other.
    let members: Vec<_> = members().filter(|member| !member.is_empty()).take(MEMBERS + 1).collect();
    if !(1..=MEMBERS).contains(&members.len()) {
        return None;
    }
    let has_twice = members.iter().enumerate().any(|(place, one)| {
        let key = key(one);
        members[..place].iter().any(|other| self::key(other) == key)
    });
    let is_good = members.iter().all(|member| is_member(member));
    let state = members.join(&b","[..]);
    (is_good && !has_twice && state.len() <= LENGTH).then(|| HeaderValue::from_bytes(&state).ok()).flatten()
}

fn key(member: &[u8]) -> &[u8] {
    member.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// `key=value`, or `tenant@system=value`.
fn is_member(member: &[u8]) -> bool {
    let key = key(member);
    let Some(value) = member[key.len()..].strip_prefix(b"=") else { return false };
    let is_key = |key: &[u8], most: usize, begins: fn(&u8) -> bool| {
        let may_be = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte);
        key.len() <= most && key.first().is_some_and(begins) && key.iter().all(may_be)
    };
    let is_good = match key.iter().position(|byte| *byte == b'@') {
        Some(at) => {
            let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            is_key(&key[..at], 241, begins) && is_key(&key[at + 1..], 14, u8::is_ascii_lowercase)
        }
        None => is_key(key, 256, u8::is_ascii_lowercase),
    };
    let may_be = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    is_good && (1..=256).contains(&value.len()) && value.iter().all(may_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_one_and_what_breaks_the_rules_is_dropped() {
        let many = |members: usize| (0..members).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for (lines, state) in [
            (&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"][..], Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
            (&["a=1", "b=2 , ,c=3"], Some("a=1,b=2,c=3")),
            (&["fw529a3039@dt=FfAtABcsS"], Some("fw529a3039@dt=FfAtABcsS")),
            (&["0tenant@system=1"], Some("0tenant@system=1")),
            (&["a=1,a=2"], None),
            (&["0a=1"], None),
            (&["A=1"], None),
            (&["a"], None),
            (&["a="], None),
            (&["=1"], None),
            (&["a=1=2"], None),
            (&["@b=1"], None),
            (&["a@b@c=1"], None),
            (&["a=\u{7f}"], None),
            (&[""], None),
            (&[&many(32)], Some(&*many(32))),
            (&[&many(33)], None),
            (&[&format!("a={}", "x".repeat(257))], None),
            (&[&format!("a={},b={}", "x".repeat(255), "y".repeat(255))], None),
        ] {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|line| {
                _ = headers.append(
                    TRACESTATE,
                    HeaderValue::from_bytes(line.as_bytes()).unwrap_or(HeaderValue::from_static("\t")),
                )
            });
            assert_eq!(take(&mut headers).as_ref().map(|state| state.to_str().unwrap()), state, "{lines:?}");
            assert!(headers.is_empty());
        }
    }
    #[test]
    fn a_list_of_any_length_is_read_in_no_time() {
        // Compared with each other they would take hours.
        let long: String = (0..1_000_000).map(|n| format!("k{n}=v,")).collect();
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::try_from(long).unwrap());
        assert_eq!(take(&mut headers), None);
    }
}
