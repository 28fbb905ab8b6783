//! `GET /`: the page that shows it all. It is one file, asks nobody but us for anything, and has no secrets in it: what it
//! shows it asks for by itself, with the token that it was given.

use super::Admin;
use axum::{
    extract::State,
    http::{HeaderName, header},
    response::{Html, IntoResponse},
};
use std::hash::{BuildHasher, RandomState};

const PAGE: &str = include_str!("dashboard.html");

pub async fn page(State(admin): State<Admin>) -> impl IntoResponse {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers: [(HeaderName, String); 1] = [(header::CONTENT_SECURITY_POLICY, policy)];
    // So that the page asks for a token before it is refused for want of one.
    let token = if admin.plan().config.server.token().is_some() { "required" } else { "none" };
    (headers, Html(PAGE.replace("{{nonce}}", &nonce).replace("{{token}}", token)))
}

/// What nobody can know before: a script that somebody else got into the page does not run.
fn nonce() -> String {
    // Keyed anew by the operating system's random numbers.
    let random = || RandomState::new().hash_one(fastrand::u64(..));
    format!("{:016x}{:016x}", random(), random())
}
