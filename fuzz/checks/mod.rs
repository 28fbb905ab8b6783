//! What must be true whatever comes from outside. The fuzz targets beside this and tests/corpus.rs call the same functions.

pub mod config;
pub mod cookies;
pub mod deadline;
pub mod forward;
pub mod names;
pub mod orca;
pub mod server;
pub mod strict;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Lines of `name: value`; what is no header is left out.
pub fn headers(data: &[u8]) -> HeaderMap {
    let fields = data.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    });
    let mut headers = HeaderMap::new();
    // Beyond, a map of headers is full, which is its server's affair.
    fields.take(1_000).for_each(|(name, value)| _ = headers.append(name, value));
    headers
}

/// What comes of a future that waits for nothing outside.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads").block_on(future)
}
