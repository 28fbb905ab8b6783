use super::BackendId;
use http::{
    HeaderValue,
    uri::{Authority, Scheme, Uri},
};
use std::{error::Error, fmt, str::FromStr, sync::Arc};

/// Where an HTTP backend is: scheme, host and port (RFC 6454), as in `http://10.0.0.1:8080`.
///
/// A path, a query or user information is refused: requests keep their own. The canonical spelling, which is also the
/// backend's id, is lower case, without a default port and without a trailing slash.
///
/// ```
/// use tower_balancer::backend::Origin;
///
/// let origin: Origin = "HTTP://Localhost:3001/".parse()?;
/// assert_eq!(origin.to_string(), "http://localhost:3001");
/// assert_eq!((origin.host(), origin.port()), ("localhost", 3001));
///
/// let error = "localhost:3001".parse::<Origin>().unwrap_err();
/// assert!(error.to_string().contains("localhost:3001"));
/// # Ok::<_, tower_balancer::backend::InvalidOrigin>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin(Arc<Parts>);

#[derive(PartialEq, Eq, Hash)]
struct Parts {
    id: BackendId,
    scheme: Scheme,
    authority: Authority,
    host_header: HeaderValue,
}

impl Origin {
    /// The canonical spelling: the id under which the backend is known.
    pub fn id(&self) -> &BackendId {
        &self.0.id
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &Scheme {
        &self.0.scheme
    }

    /// Host and, where it is not the scheme's default, port.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// The authority, as `Host` has it.
    pub(crate) fn host_header(&self) -> &HeaderValue {
        &self.0.host_header
    }

    /// The host to connect to; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.0.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.0.authority.port_u16().unwrap_or(default_port(&self.0.scheme))
    }
}

fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(url: &str) -> Result<Self, InvalidOrigin> {
        let invalid = |problem| InvalidOrigin { url: url.to_owned(), problem };
        let odd = [
            ('#', "it has a fragment"),
            (' ', "it has a space"),
            (',', "it has a comma: each backend stands by itself"),
        ];
        if let Some((_, problem)) = odd.into_iter().find(|(letter, _)| url.contains(*letter)) {
            return Err(invalid(problem));
        }
        if !url.is_ascii() {
            return Err(invalid("it is not ASCII: a host of other letters has a spelling that begins with xn--"));
        }
        let uri: Uri = url.to_ascii_lowercase().parse().map_err(|_| invalid("it is not a URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            let problem =
                if uri.authority().is_some() { "http:// is missing before it" } else { "the host is missing" };
            return Err(invalid(problem));
        };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(invalid("the scheme is neither http nor https"));
        }
        if authority.as_str().contains('@') {
            return Err(invalid("it has user information"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("it has a path or a query, and requests keep their own"));
        }
        if authority.host().is_empty() {
            return Err(invalid("the host is missing"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            None | Some("") => None,
            Some(_) => match authority.port_u16() {
                None | Some(0) => return Err(invalid("the port is not a number from 1 to 65535")),
                port => port.filter(|&port| port != default_port(scheme)),
            },
        };
        let canonical = match port {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        Ok(Self(Arc::new(Parts {
            id: format!("{scheme}://{canonical}").into(),
            scheme: scheme.clone(),
            authority: canonical.parse().map_err(|_| invalid("it is not a URL"))?,
            host_header: HeaderValue::try_from(canonical).map_err(|_| invalid("it is not a URL"))?,
        })))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.id.fmt(f)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a text that is not an [`Origin`]: it names the text, the problem and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrigin {
    url: String,
    problem: &'static str,
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What stands before an @ may be a password.
        let shown = self.url.rsplit_once('@').map_or(self.url.clone(), |(_, rest)| format!("…@{rest}"));
        write!(f, "invalid backend URL {shown:?}: {}; expected http://host:port or https://host:port", self.problem)
    }
}

impl Error for InvalidOrigin {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Origin, InvalidOrigin> {
        url.parse()
    }

    #[test]
    fn two_spellings_of_one_origin_are_one_backend() {
        for (url, canonical, host, port) in [
            ("http://localhost:3001", "http://localhost:3001", "localhost", 3001),
            ("http://LOCALHOST:3001/", "http://localhost:3001", "localhost", 3001),
            ("http://a.example:80/", "http://a.example", "a.example", 80),
            ("https://a.example:443", "https://a.example", "a.example", 443),
            ("https://a.example:80", "https://a.example:80", "a.example", 80),
            ("http://[::1]:3001", "http://[::1]:3001", "::1", 3001),
        ] {
            let origin = parse(url).unwrap();
            assert_eq!((origin.id().as_str(), origin.host(), origin.port()), (canonical, host, port));
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_by_name() {
        for (url, problem) in [
            ("", "not a URL"),
            ("not a url", "a space"),
            (" http://host", "a space"),
            ("http://a,http://b", "a comma"),
            ("http://bäcker.example", "not ASCII"),
            ("localhost:3001", "http:// is missing"),
            ("/path", "missing"),
            ("ftp://host", "neither http nor https"),
            ("http://", "not a URL"),
            ("http://:3001", "host is missing"),
            ("http://user:secret@host", "user information"),
            ("http://host/path", "path or a query"),
            ("http://host/?q", "path or a query"),
            ("http://host/#f", "fragment"),
            ("http://host:0", "port"),
            ("http://host:99999", "port"),
            ("http://host:", "port"),
        ] {
            let error = parse(url).expect_err(url).to_string();
            let shown = url.replace("http://user:secret@", "…@");
            assert!(error.contains(problem) && error.contains(&format!("{shown:?}")), "{url}: {error}");
        }
    }
}
