//! What a line says of where the message ends.

use super::scan::is_ascii_without;
use crate::http::token::in_token;

/// A line that may not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A header line, as far as it matters here. Names and values are checked by the parser above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Length(u64),
    Chunked,
    Host,
    Upgrade,
    Other,
}

impl Field {
    /// Whether a line that begins so may be any but [`Other`](Self::Other): most are not looked at any further.
    #[inline]
    pub(super) fn may_begin_with(first: u8) -> bool {
        matches!(first | 0x20, b'c' | b't' | b'h' | b'u')
    }

    /// Of a line without its end.
    pub(super) fn of(line: &[u8]) -> Result<Self, Malformed> {
        if let Some(length) = value(line, b"content-length") {
            return self::length(length).map(Self::Length);
        }
        if let Some(coding) = value(line, b"transfer-encoding") {
            return if coding.eq_ignore_ascii_case(b"chunked") { Ok(Self::Chunked) } else { Err(Malformed) };
        }
        if value(line, b"host").is_some() {
            return Ok(Self::Host);
        }
        Ok(if value(line, b"upgrade").is_some() { Self::Upgrade } else { Self::Other })
    }
}

/// The value of a line of this name, without white space around it. Where the name ends is looked at first.
#[inline]
fn value<'a, const N: usize>(line: &'a [u8], name: &[u8; N]) -> Option<&'a [u8]> {
    let named = line.get(N) == Some(&b':') && line[..N].eq_ignore_ascii_case(name);
    named.then(|| trim(&line[N + 1..]))
}

/// Without spaces and tabs around it: no other white space may stand there.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Digits and nothing else, of which the first is zero only where there is one: some take what begins so as octal. Some count
/// with a sign, and what has no place beside it is a negative length to them.
fn length(value: &[u8]) -> Result<u64, Malformed> {
    const MOST: u64 = i64::MAX as u64;
    match value {
        [b'0'] => Ok(0),
        [b'1'..=b'9', ..] if value.len() <= 19 && value.iter().all(u8::is_ascii_digit) => {
            let length = value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
            if length <= MOST { Ok(length) } else { Err(Malformed) }
        }
        _ => Err(Malformed),
    }
}

/// What the line before a chunk says of its size: hexadecimal digits, then the end or extensions.
pub(super) fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    if !(1..=16).contains(&digits) {
        return Err(Malformed);
    }
    extensions(rest)?;
    let digit = |byte: u8| u64::from((byte as char).to_digit(16).unwrap_or(0));
    Ok(size.iter().fold(0, |size, &byte| size << 4 | digit(byte)))
}

/// Each a `;` and a name, and perhaps a `=` and a value, with white space around either (RFC 9112 §7.1.1).
fn extensions(mut rest: &[u8]) -> Result<(), Malformed> {
    while !rest.is_empty() {
        let [b';', name @ ..] = skip_space(rest) else { return Err(Malformed) };
        rest = after_token(skip_space(name))?;
        if let [b'=', value @ ..] = skip_space(rest) {
            rest = match skip_space(value) {
                [b'"', quoted @ ..] => after_quoted(quoted)?,
                token => after_token(token)?,
            };
        }
    }
    Ok(())
}

fn skip_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// What follows the token that has to be there.
fn after_token(text: &[u8]) -> Result<&[u8], Malformed> {
    match text.iter().position(|&byte| !in_token(byte)).unwrap_or(text.len()) {
        0 => Err(Malformed),
        end => Ok(&text[end..]),
    }
}

/// What follows the quote that ends a quoted string (RFC 9110 §5.6.4).
fn after_quoted(mut text: &[u8]) -> Result<&[u8], Malformed> {
    let is_text = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    loop {
        text = match text {
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is_text(*byte) => rest,
            _ => return Err(Malformed),
        }
    }
}

/// The first line of a request, as far as the parser above forgets what was there: a target is plain ASCII, and a fragment
/// is no part of it. In the method, `#` is like any letter.
pub(super) fn request_line(line: &[u8]) -> Result<(), Malformed> {
    let has_fragment = || line.iter().skip_while(|&&byte| byte != b' ').any(|&byte| byte == b'#');
    if is_ascii_without(line, b'#') || line.is_ascii() && !has_fragment() { Ok(()) } else { Err(Malformed) }
}
