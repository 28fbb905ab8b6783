use super::{Peer, cookie};
use crate::{
    balance::Describe,
    strategy::{Hint, hash_key},
};
use http::{HeaderName, Request};
use std::{error::Error, fmt, net::IpAddr, str::FromStr, sync::Arc};

/// What of a request binds it to a backend, for strategies that keep equal keys together.
///
/// Sources are asked in order; the first that the request has is the key. With none of them there is no key, and the
/// request goes anywhere. A clone costs one reference count. Values are compared as they are sent: nothing is decoded.
///
/// ```
/// use tower_balancer::{BackendPool, ReverseProxy, http::RequestKey, strategy::{ConsistentHash, Maglev}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
/// // By user, and for those who are not logged in, by address.
/// let key: RequestKey = "header:x-user, address".parse()?;
/// let proxy = ReverseProxy::builder(&pool).strategy(ConsistentHash::new(Maglev::new()).bounded(1.25)).key(key);
/// # let _: ReverseProxy<_, String> = proxy.build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    sources: Arc<[Source]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    Path,
    Address,
}

impl RequestKey {
    /// The value of a header; of the first, where there are several.
    pub fn header(name: HeaderName) -> Self {
        Source::Header(name).into()
    }

    /// The value of a cookie.
    pub fn cookie(name: impl Into<String>) -> Self {
        Source::Cookie(name.into()).into()
    }

    /// The value of a parameter of the query.
    pub fn query(name: impl Into<String>) -> Self {
        Source::Query(name.into()).into()
    }

    /// The path, without the query.
    pub fn path() -> Self {
        Source::Path.into()
    }

    /// The IP address of the client, by the [`Peer`] that the server put into the request. Behind another proxy that is
    /// the proxy, unless it is [trusted](super::ForwardLayer::trusted_proxies).
    pub fn client_address() -> Self {
        Source::Address.into()
    }

    /// Where the request has none of these, what `other` finds.
    pub fn or(self, other: Self) -> Self {
        Self { sources: self.sources.iter().chain(&*other.sources).cloned().collect() }
    }

    /// The hash of the key; `None` where the request has none.
    pub fn of<B>(&self, request: &Request<B>) -> Option<u64> {
        self.sources.iter().find_map(|source| source.of(request))
    }
}

impl From<Source> for RequestKey {
    fn from(source: Source) -> Self {
        Self { sources: Arc::new([source]) }
    }
}

impl Source {
    fn of<B>(&self, request: &Request<B>) -> Option<u64> {
        match self {
            // An empty value binds nobody: those who logged out are not one user.
            Self::Header(name) => request.headers().get(name).filter(|value| !value.is_empty()).map(hash_key),
            Self::Cookie(name) => cookie::values(request.headers(), name).find(|value| !value.is_empty()).map(hash_key),
            Self::Query(name) => parameter(request.uri().query()?, name).filter(|it| !it.is_empty()).map(hash_key),
            Self::Path => Some(hash_key(request.uri().path())),
            Self::Address => match request.extensions().get::<Peer>()?.ip() {
                IpAddr::V4(address) => Some(hash_key(address.octets())),
                IpAddr::V6(address) => Some(hash_key(address.octets())),
            },
        }
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

impl<B> Describe<Request<B>> for RequestKey {
    fn describe<'a>(&self, request: &'a Request<B>, hint: &mut Hint<'a>) {
        hint.key = self.of(request);
    }
}

/// Reads `header:NAME`, `cookie:NAME`, `query:NAME`, `path` and `address`, several with commas between.
impl FromStr for RequestKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let source = |word: &str| -> Option<Source> {
            let (kind, name) = word.split_once(':').unwrap_or((word, ""));
            match (kind, name) {
                ("path", "") => Some(Source::Path),
                ("address", "") => Some(Source::Address),
                (_, "") => None,
                ("header", name) => name.parse().ok().map(Source::Header),
                ("cookie", name) => Some(Source::Cookie(name.to_owned())),
                ("query", name) => Some(Source::Query(name.to_owned())),
                _ => None,
            }
        };
        let words = text.split(',').map(str::trim);
        let sources = words.map(|word| source(word).ok_or_else(|| InvalidKey(word.to_owned())));
        Ok(Self { sources: sources.collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, source) in self.sources.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            match source {
                Source::Header(name) => write!(f, "{comma}header:{name}")?,
                Source::Cookie(name) => write!(f, "{comma}cookie:{name}")?,
                Source::Query(name) => write!(f, "{comma}query:{name}")?,
                Source::Path => write!(f, "{comma}path")?,
                Source::Address => write!(f, "{comma}address")?,
            }
        }
        Ok(())
    }
}

/// The error for a text that names no part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKey(String);

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid key {:?}: expected header:NAME, cookie:NAME, query:NAME, path or address", self.0)
    }
}

impl Error for InvalidKey {}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Scheme;

    fn key(text: &str, request: &Request<()>) -> Option<u64> {
        text.parse::<RequestKey>().unwrap().of(request)
    }

    #[test]
    fn a_key_comes_from_the_first_source_that_the_request_has() {
        let mut request = Request::get("/list?page=2&user=ann&user=bob")
            .header("x-user", "ann")
            .header("cookie", "a=1; session = \"ann\" ; sessions=8;;=; junk")
            .header("cookie", "session=bob")
            .body(())
            .unwrap();
        let ann = Some(hash_key("ann"));
        for text in
            ["header:x-user", "header:X-User", "cookie:session", "query:user", "cookie:no, query:no, query:user"]
        {
            assert_eq!(key(text, &request), ann, "{text}");
        }
        assert_eq!(key("path", &request), Some(hash_key("/list")));
        for none in ["header:x-other", "cookie:junk", "query:use", "address"] {
            assert_eq!(key(none, &request), None, "{none}");
        }
        for address in ["10.0.0.1:1", "10.0.0.1:2", "[::ffff:10.0.0.1]:3"] {
            request.extensions_mut().insert(Peer::new(address.parse().unwrap(), &Scheme::HTTP));
            assert_eq!(key("address", &request), Some(hash_key([10, 0, 0, 1])), "{address}");
        }
    }

    #[test]
    fn built_written_and_read_are_the_same() {
        let built = RequestKey::header(HeaderName::from_static("x-user"))
            .or(RequestKey::cookie("session"))
            .or(RequestKey::query("user"))
            .or(RequestKey::path())
            .or(RequestKey::client_address());
        assert_eq!(built.to_string(), "header:x-user, cookie:session, query:user, path, address");
        assert_eq!("header:x-user,cookie:session, query:user , path,address".parse(), Ok(built));
    }

    #[test]
    fn what_names_no_part_of_a_request_is_named() {
        for bad in ["", "header", "header:", "header:a b", "body:x", "path:x", "cookie:a,,"] {
            let error = bad.parse::<RequestKey>().unwrap_err().to_string();
            assert!(error.starts_with("invalid key \"") && error.contains("expected header:NAME"), "{error}");
        }
    }
}
