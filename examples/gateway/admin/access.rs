//! Who may ask, and who may change something.
//!
//! A browser that shows a stranger's page sends requests for it as well, from this machine and with all its rights. So a
//! request has to be for a name that is ours, or a stranger who lets his own name point here would be of the same origin
//! (DNS rebinding); and what changes something has to come from our own page, or from no page at all, as `curl` does.

use super::{Admin, problem::Problem};
use crate::config::server::Server;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::Response,
};
use std::net::IpAddr;
use tower_balancer::http::Peer;
use tracing::warn;

/// What was said of it at the start.
pub struct Rules {
    names: Vec<String>,
}

impl Rules {
    pub fn new(server: &Server) -> Self {
        let names = server.admin_host.iter().flat_map(|names| names.iter());
        Self { names: names.map(|name| name.0.clone()).collect() }
    }

    /// Whether `host` is one of our names.
    fn knows(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let is = |name: &str| host.eq_ignore_ascii_case(name);
        let ip = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ip.parse::<IpAddr>().is_ok() || is("localhost") || self.names.iter().any(|name| is(name))
    }
}

/// Lets through what shows the token, where there is one.
pub async fn token(State(admin): State<Admin>, request: Request, next: Next) -> Result<Response, Problem> {
    let plan = admin.plan();
    if let Some(token) = plan.config.server.token() {
        let shown = request.headers().get(header::AUTHORIZATION).map(|shown| shown.as_bytes());
        let refuse = |words| Err(Problem::new(StatusCode::UNAUTHORIZED, words));
        match shown.and_then(bearer) {
            Some(shown) if token.is(shown) => {}
            Some(_) => {
                let who = request.extensions().get::<Peer>().map(|peer| peer.address().to_string());
                warn!("an operator at {} has shown a wrong token", who.unwrap_or_default());
                return refuse("this is not the token");
            }
            None => return refuse("expected a header authorization: Bearer, with the token"),
        }
    }
    Ok(next.run(request).await)
}

/// The token in the header, by RFC 6750.
fn bearer(shown: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = shown.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Lets through what is for us, and changes only by ourselves.
pub async fn same_site(State(admin): State<Admin>, request: Request, next: Next) -> Result<Response, Problem> {
    let host = host(&request)?;
    if !admin.access.knows(host.host()) {
        return Err(Problem::forbidden(format!(
            "host {:?} is not known here: expected an IP address, localhost, or a name of server.admin_host",
            host.host()
        )));
    }
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    if changes && let Some(stranger) = stranger(request.headers(), &host) {
        warn!("a page of another origin tried {} {}: {stranger}", request.method(), request.uri().path());
        return Err(Problem::forbidden(format!("{stranger}: only our own page may change something")));
    }
    Ok(next.run(request).await)
}

/// Who the request is for.
fn host(request: &Request) -> Result<Authority, Problem> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.clone());
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.as_bytes().try_into().ok());
    host.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "expected a header host"))
}

/// The page of another origin that has sent it, in words.
fn stranger(headers: &HeaderMap, host: &Authority) -> Option<String> {
    if let Some(site) = headers.get("sec-fetch-site")
        && site != "same-origin"
        // A person, not a page.
        && site != "none"
    {
        return Some(format!("sec-fetch-site is {site:?}"));
    }
    let origin = headers.get(header::ORIGIN)?;
    let of = |origin: &str| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
        Some(authority.eq_ignore_ascii_case(host.as_str()))
    };
    let is_ours = origin.to_str().ok().and_then(of).unwrap_or(false);
    (!is_ours).then(|| format!("origin is {origin:?}, and the host is {host}"))
}
