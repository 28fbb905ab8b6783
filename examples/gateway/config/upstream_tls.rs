//! `upstream.tls`: who is trusted behind `https://`, and who the gateway is there.

use super::value::{Fault, Scalar, Value};
use serde::Deserialize;
use std::fmt;
use tower_balancer::http::{InvalidTls, TlsConfig};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    pub ca: Option<Value<Pem>>,
    pub server_name: Option<Value<String>>,
    pub cert: Option<Value<Pem>>,
    pub key: Option<Value<Pem>>,
}

impl UpstreamTls {
    /// The same for the library.
    pub fn config(&self) -> Result<TlsConfig, Fault> {
        let mut tls = TlsConfig::new();
        if let Some(ca) = &self.ca {
            tls = tls.ca(&ca.text).map_err(|error| ca.invalid(&error))?;
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let problem = |error: InvalidTls| if error.is_about_key() { key } else { cert }.invalid(&error);
                tls = tls.identity(&cert.text, &key.text).map_err(problem)?;
            }
            (Some(alone), None) => return Err(alone.fault("this is of no use alone: expected key as well")),
            (None, Some(alone)) => return Err(alone.fault("this is of no use alone: expected cert as well")),
            (None, None) => {}
        }
        match &self.server_name {
            Some(name) => tls.server_name(name).map_err(|error| name.fault(error.to_string())),
            None => Ok(tls),
        }
    }
}

impl Value<Pem> {
    fn invalid(&self, error: &InvalidTls) -> Fault {
        self.fault(format!("{}: {error}", self.path))
    }
}

impl fmt::Display for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ca {
            Some(ca) => write!(f, "1.2 and 1.3, trusts {}", ca.path)?,
            None => f.write_str("1.2 and 1.3, trusts whom the system trusts")?,
        }
        match self.server_name.as_deref() {
            Some(name) => write!(f, ", expects {name}")?,
            None => f.write_str(", expects who is in the URL")?,
        }
        match &self.cert {
            Some(cert) => write!(f, ", shows {}", cert.path),
            None => Ok(()),
        }
    }
}

/// A file in PEM, with what it said when it was read: where that changes, a reload is a change.
#[derive(Clone, PartialEq)]
pub struct Pem {
    path: String,
    text: Vec<u8>,
}

impl Scalar for Pem {
    fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|error| {
            let words = error.to_string();
            format!("{path:?} cannot be read: {}", words.split(" (os error").next().unwrap_or(&words))
        })?;
        Ok(Self { path: path.to_owned(), text })
    }
}

/// Without what may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}
