use crate::http::seldom;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The time that a gRPC call has left, in gRPC's own words: `250m` is a quarter of a second.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time that a request has left, in milliseconds.
///
/// A time and not a date, so that no two clocks have to agree; the unit is in the name. It has the same name on the way in
/// and on the way out, so that proxies in a row, and services that pass it on, need not know of each other. It is not one
/// of Envoy's, which has another name for each way, `x-envoy-upstream-rq-timeout-ms` and `x-envoy-expected-rq-timeout-ms`,
/// and takes the first from trusted callers only, since there it may lengthen too.
pub const REQUEST_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// The least that the headers say.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    if !seldom::any(headers, [&GRPC_TIMEOUT, &REQUEST_TIMEOUT_MS]) {
        return None;
    }
    let grpc = seldom::get(headers, &GRPC_TIMEOUT).and_then(|value| read_grpc(value.as_bytes()));
    let millis =
        seldom::get(headers, &REQUEST_TIMEOUT_MS).and_then(|value| number(value.as_bytes())).map(Duration::from_millis);
    grpc.into_iter().chain(millis).min()
}

/// Says that so much is left, where the request says something at all.
pub(super) fn write(headers: &mut HeaderMap, left: Duration) {
    if headers.contains_key(GRPC_TIMEOUT)
        && let Ok(value) = HeaderValue::try_from(write_grpc(left))
    {
        headers.insert(GRPC_TIMEOUT, value);
    }
    if headers.contains_key(REQUEST_TIMEOUT_MS) {
        // Rounded down, but not to 0, which many take for "as long as you like".
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        headers.insert(REQUEST_TIMEOUT_MS, HeaderValue::from(millis));
    }
}

/// The units of gRPC, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The most that eight digits can say.
const MOST: u128 = 99_999_999;

/// `TimeoutValue TimeoutUnit`: up to eight digits and a letter. 0, of which some clients make use, is no time.
fn read_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last().filter(|(_, digits)| digits.len() <= 8)?;
    let &(_, nanos) = UNITS.iter().find(|(letter, _)| letter == unit)?;
    let nanos = u128::from(number(digits)?) * nanos;
    Some(Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32))
}

/// Rounded down to the finest unit that it fits into, and never 0, which is outside the grammar.
fn write_grpc(left: Duration) -> String {
    let nanos = left.as_nanos().max(1);
    let fitting = UNITS.iter().map(|&(letter, unit)| (nanos / unit, letter)).find(|&(count, _)| count <= MOST);
    let (count, letter) = fitting.unwrap_or((MOST, b'H'));
    format!("{count}{}", char::from(letter))
}

/// Digits and nothing else: neither a sign, nor a blank.
fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_grpc() {
        for (text, time) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("0n", Some(Duration::ZERO)),
            ("00000010m", Some(Duration::from_millis(10))),
            ("1234567890n", None),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1h", None),
            ("+1S", None),
            ("-1S", None),
            ("1.5S", None),
            ("1 S", None),
            (" 1S", None),
            ("1S ", None),
            ("1mS", None),
            ("\u{661}S", None),
        ] {
            assert_eq!(read_grpc(text.as_bytes()), time, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_is_written_as_finely_as_it_fits_and_never_as_more() {
        for (left, text) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(1_000_000), "1000000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(100_000_000 * 60), "1666666H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(write_grpc(left), text, "{left:?}");
            assert!(read_grpc(text.as_bytes()).is_some_and(|read| read <= left.max(Duration::from_nanos(1))), "{text}");
        }
    }

    #[test]
    fn milliseconds_are_digits() {
        for (text, time) in [
            ("250", Some(Duration::from_millis(250))),
            ("0", Some(Duration::ZERO)),
            ("18446744073709551615", Some(Duration::from_millis(u64::MAX))),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1.0", None),
            ("1s", None),
            ("0x1", None),
        ] {
            let headers = HeaderMap::from_iter([(REQUEST_TIMEOUT_MS, text.parse().unwrap())]);
            assert_eq!(read(&headers), time, "{text:?}");
        }
    }

    #[test]
    fn the_least_of_both_counts_and_what_is_malformed_does_not() {
        for (grpc, millis, time) in [
            ("1S", "500", Some(Duration::from_millis(500))),
            ("1m", "500", Some(Duration::from_millis(1))),
            ("soon", "500", Some(Duration::from_millis(500))),
            ("1S", "soon", Some(Duration::from_secs(1))),
            ("soon", "soon", None),
        ] {
            let lines = [(GRPC_TIMEOUT, grpc.parse().unwrap()), (REQUEST_TIMEOUT_MS, millis.parse().unwrap())];
            assert_eq!(read(&HeaderMap::from_iter(lines)), time, "{grpc} {millis}");
        }
    }

    #[test]
    fn only_what_came_is_passed_on() {
        let mut headers = HeaderMap::from_iter([(REQUEST_TIMEOUT_MS, "9".parse().unwrap())]);
        write(&mut headers, Duration::from_micros(7_999));
        assert_eq!(headers, HeaderMap::from_iter([(REQUEST_TIMEOUT_MS, "7".parse().unwrap())]));
        write(&mut headers, Duration::ZERO);
        assert_eq!(headers[REQUEST_TIMEOUT_MS], "1");
        let mut none = HeaderMap::new();
        write(&mut none, Duration::from_secs(1));
        assert!(none.is_empty());
    }
}
