//! What is read from text and written again is the same: networks, keys, origins, secrets.

use http::Request;
use std::{fmt::Display, str::FromStr};
use tower_balancer::{
    backend::Origin,
    http::{Network, RequestKey},
};

fn same<T: FromStr + Display>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    let again = written.parse::<T>().unwrap_or_else(|_| panic!("{text:?} is written as {written:?}, which is none"));
    assert_eq!(again.to_string(), written);
}

/// A line of text, then headers for a request of which a key is read.
pub fn check(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else { return };
    same::<Network>(text);
    same::<RequestKey>(text);
    same::<Origin>(text);
    if let Ok(key) = text.parse::<RequestKey>() {
        let mut request = Request::new(());
        *request.headers_mut() = super::headers(&data[end..]);
        assert_eq!(key.of(&request), key.of(&request));
    }
}
