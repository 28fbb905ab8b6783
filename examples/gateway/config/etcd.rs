//! How an etcd is reached, and who asks: the same in `discover` and in `[fleet]`.

use super::{
    shapes::{Many, Short},
    value::{Fault, Scalar, Value},
};
use http::{Uri, uri::Scheme};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// An endpoint, `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl Endpoint {
    fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

impl Scalar for Endpoint {
    fn read(text: &str) -> Result<Self, String> {
        let uri = text.parse().ok().filter(|uri: &Uri| {
            let is_bare = uri.path_and_query().is_none_or(|path| path == "/");
            let has_port = uri.authority().is_some_and(|authority| authority.port().is_some());
            is_bare && has_port && [Some("http"), Some("https")].contains(&uri.scheme_str())
        });
        let expected = || format!("invalid endpoint {text:?}: expected one such as http://127.0.0.1:2379");
        uri.map(Self).ok_or_else(expected)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_string().trim_end_matches('/'))
    }
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Scalar for Secret {
    fn read(text: &str) -> Result<Self, String> {
        String::read(text).map(Self)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"…\"")
    }
}

/// An etcd, and who asks; in short an endpoint, or a list of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Etcd {
    pub endpoints: Many<Endpoint>,
    #[serde(default)]
    user: Option<Value<String>>,
    #[serde(default)]
    password: Option<Value<Secret>>,
    #[serde(default)]
    password_file: Option<Value<String>>,
    #[serde(default)]
    ca: Option<Value<String>>,
    #[serde(default)]
    cert: Option<Value<String>>,
    #[serde(default)]
    key: Option<Value<String>>,
    #[serde(default)]
    server_name: Option<Value<String>>,
}

/// What is secret, or in files.
#[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "read to be checked"))]
struct Loaded {
    credentials: Option<(String, String)>,
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Etcd {
    fn at(endpoints: Many<Endpoint>) -> Self {
        let (user, password, password_file, ca, cert, key, server_name) = Default::default();
        Self { endpoints, user, password, password_file, ca, cert, key, server_name }
    }

    pub fn validate(&self) -> Result<(), Fault> {
        self.load().map(drop)
    }

    /// What is in its files, now.
    fn load(&self) -> Result<Loaded, Fault> {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(file)) => return Err(file.fault("there is a password as well: expected one of them")),
            (Some(password), None) => Some(password.0.clone()),
            (None, Some(file)) => {
                let text = String::from_utf8(read(file)?).map_err(|_| file.fault(format!("{}: not UTF-8", **file)))?;
                Some(text.trim_end().to_owned())
            }
            (None, None) => None,
        };
        let credentials = match (&self.user, password) {
            (Some(user), None) => return Err(user.fault("expected password or password_file as well")),
            (None, Some(_)) => return Err(self.endpoints[0].fault("there is a password: expected user as well")),
            (Some(user), Some(password)) => Some((String::clone(user), password)),
            (None, None) => None,
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((read_pem(cert)?, read_pem(key)?)),
            (Some(alone), None) => return Err(alone.fault("expected key as well")),
            (None, Some(alone)) => return Err(alone.fault("expected cert as well")),
            (None, None) => None,
        };
        let ca = self.ca.as_ref().map(read_pem).transpose()?;
        if let Some(tls) = self.endpoints.iter().find(|endpoint| endpoint.is_tls())
            && ca.is_none()
        {
            return Err(tls.fault("expected ca as well, the certificate by which those of https endpoints are judged"));
        }
        Ok(Loaded { credentials, ca, identity })
    }

    /// Its files are read again before each connection.
    #[cfg(feature = "etcd")]
    pub fn config(&self) -> tower_balancer::discover::EtcdConfig {
        let config = tower_balancer::discover::EtcdConfig::new(self.endpoints.iter().map(|it| it.to_string()));
        let etcd = self.clone();
        config.reading(move |mut config| {
            let Loaded { credentials, ca, identity } = etcd.load().map_err(|fault| fault.words)?;
            if let Some((user, password)) = credentials {
                config = config.credentials(user, password);
            }
            if let Some(ca) = ca {
                config = config.ca(ca);
            }
            if let Some((certificate, key)) = identity {
                config = config.identity(certificate, key);
            }
            Ok(match &etcd.server_name {
                Some(name) => config.server_name(name.as_str()),
                None => config,
            })
        })
    }

    /// What is allowed, and probably not meant.
    pub fn warning(&self) -> Option<String> {
        let is_open = self.user.is_some() && self.endpoints.iter().any(|endpoint| !endpoint.is_tls());
        is_open.then(|| "the password for etcd goes over http, where others may read it".to_owned())
    }
}

impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.to_string()).collect();
        write!(f, "etcd {}", endpoints.join(", "))?;
        self.user.as_ref().map_or(Ok(()), |user| write!(f, " as {}", **user))
    }
}

impl Short for Etcd {
    type Scalar = Endpoint;

    fn short(endpoint: Value<Endpoint>) -> Self {
        Self::at(Many(vec![endpoint]))
    }

    fn list(endpoints: Many<Endpoint>) -> Option<Self> {
        Some(Self::at(endpoints))
    }

    fn full<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Etcd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Self as Short>::read(deserializer)
    }
}

fn read(file: &Value<String>) -> Result<Vec<u8>, Fault> {
    std::fs::read(&**file).map_err(|error| {
        let text = error.to_string();
        let words = text.split(" (os error").next().unwrap_or(&text);
        file.fault(format!("{}: cannot be read: {words}", **file))
    })
}

fn read_pem(file: &Value<String>) -> Result<Vec<u8>, Fault> {
    let text = read(file)?;
    let is_pem = text.windows(11).any(|window| window == b"-----BEGIN ");
    if is_pem { Ok(text) } else { Err(file.fault(format!("{}: expected PEM", **file))) }
}
