//! Headers that most messages do not have.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Up to so many names are looked through one by one: a comparison costs a tenth of a hash.
const FEW: usize = 16;

/// Whether there is one. Cheap where there is none, which is nearly always.
pub(super) fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    any(headers, [name])
}

/// Whether there is one of any of these names.
pub(super) fn any<const N: usize>(headers: &HeaderMap, names: [&HeaderName; N]) -> bool {
    if headers.keys_len() > FEW {
        names.into_iter().any(|name| headers.contains_key(name))
    } else {
        headers.keys().any(|key| names.contains(&key))
    }
}

/// Whether it has more than one line.
pub(super) fn has_several(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

/// Its first value.
pub(super) fn get<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    if has(headers, name) { headers.get(name) } else { None }
}

/// Takes it out, with all its values, and returns the first.
pub(super) fn take(headers: &mut HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    if has(headers, name) { headers.remove(name) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;

    #[test]
    fn it_is_found_among_few_and_among_many() {
        let seldom = HeaderName::from_static("x-seldom");
        for others in [0, 1, FEW - 1, FEW, 100] {
            let name = |number| HeaderName::try_from(format!("x-{number}")).unwrap();
            let mut headers: HeaderMap = (0..others).map(|other| (name(other), HeaderValue::from(other))).collect();
            assert!(!any(&headers, [&seldom, &header::TE]) && take(&mut headers, &seldom).is_none(), "{others}");
            headers.append(&seldom, HeaderValue::from(1));
            headers.append(&seldom, HeaderValue::from(2));
            assert!(any(&headers, [&header::TE, &seldom]), "{others}");
            assert_eq!(get(&headers, &seldom), Some(&HeaderValue::from(1)), "{others}");
            assert_eq!(take(&mut headers, &seldom), Some(HeaderValue::from(1)), "{others}");
            assert!(!has(&headers, &seldom) && headers.len() == others, "{others}");
        }
    }
}
