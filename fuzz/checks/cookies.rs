//! `Session`: its cookie is between the client and us, and all others pass.

use super::{headers, now};
use http::{Request, Response, header};
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};
use tower_balancer::{
    http::{SessionCookie, SessionLayer},
    strategy::{SessionSecret, SessionToken},
};

const NAME: &str = "lb";

/// The pairs of all lines, by what stands before and after the first `=`; without one there is no name.
fn pairs(headers: &http::HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
    let parted = pairs.map(|pair| match pair.iter().position(|&byte| byte == b'=') {
        Some(at) => (pair[..at].trim_ascii().to_vec(), pair[at + 1..].trim_ascii().to_vec()),
        None => (Vec::new(), pair.to_vec()),
    });
    parted.filter(|(name, value)| !name.is_empty() || !value.is_empty()).collect()
}

/// Lines of headers.
pub fn check(data: &[u8]) {
    let secret = SessionSecret::new([7; 16]);
    let cookie = SessionCookie::new(NAME, secret).expect("a name");
    let mut request = Request::new(());
    *request.headers_mut() = headers(data);
    let (ours, others): (Vec<_>, Vec<_>) =
        pairs(request.headers()).into_iter().partition(|pair| pair.0 == NAME.as_bytes());
    let token = ours.iter().filter_map(|(_, value)| SessionToken::read(value)).next_back();
    let service = SessionLayer::new(cookie).layer(service_fn(async |request: Request<()>| {
        let left = pairs(request.headers());
        assert_eq!(left, others, "what is not ours is another, or what is ours passed");
        let told = request.extensions().get::<SessionToken>().map(ToString::to_string);
        assert_eq!(told, token.map(|token| token.to_string()));
        Ok::<_, Infallible>(Response::new(()))
    }));
    now(service.oneshot(request)).expect("it never fails");
    if let Some(token) = token {
        assert_eq!(SessionToken::read(token.to_string().as_bytes()), Some(token), "what is written is read");
    }
}
