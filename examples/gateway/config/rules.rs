//! What one value alone does not show.

use super::{Config, Fault, Place, Scalar, Value, server::Server};
use std::net::{IpAddr, SocketAddr};
use tower_balancer::{BoxError, backend::Origin, pool::Member};

impl Config {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        let of_file = |words: &str| Err(Fault { place: Place::File, words: words.to_owned() });
        self.server.validate()?;
        if let Some(fleet) = &self.fleet {
            fleet.validate()?;
            let mut secluded = self.pools.values().map(|pool| &pool.health.out_until_checked);
            if let Some(out) = secluded.find(|out| ***out) {
                let words = "this is not to be had in a fleet, where others may have checked a backend already";
                return Err(out.fault(words));
            }
        }
        if self.pools.is_empty() {
            return of_file("there are no backends: expected a table such as [pools.web]");
        }
        for pool in self.pools.values() {
            pool.validate()?;
            if let Some(url) = pool.backends.iter().map(|backend| &backend.url).find(|url| self.server.is_at(url)) {
                return Err(url.fault(itself(url)));
            }
        }
        if self.routes.is_empty() && self.pools.len() > 1 {
            return of_file("there are several pools and no routes: expected [[routes]], each with a pool");
        }
        for (place, route) in self.routes.iter().enumerate() {
            if !self.pools.contains_key(route.pool.as_str()) {
                let names: Vec<_> = self.pools.keys().map(String::as_str).collect();
                let words = format!("there is no pool {:?}: expected one of {}", *route.pool, names.join(", "));
                return Err(route.pool.fault(words));
            }
            let same = |other: &&super::route::Route| other.host == route.host && other.prefix() == route.prefix();
            if self.routes[..place].iter().find(same).is_some() {
                return Err(route.pool.fault("another route has the same host and path_prefix: expected each once"));
            }
        }
        Ok(())
    }
}

impl Server {
    fn validate(&self) -> Result<(), Fault> {
        if let Some(tls) = &self.tls {
            tls.load().map_err(|problem| tls.cert.fault(problem.to_string()))?;
        }
        if let (Some(_), Some(file)) = (&self.admin_token, &self.admin_token_file) {
            return Err(file.fault("there is server.admin_token as well: expected one of the two"));
        }
        if let (Some(admin), None) = (self.admin.address().filter(|admin| !admin.ip().is_loopback()), self.token()) {
            let words = format!(
                "{} {admin} is not a loopback address: expected server.admin_token or server.admin_token_file as well, \
                 so that not everyone is the operator",
                spelled(&self.admin, "admin")
            );
            return Err(self.admin.fault(words));
        }
        for (place, listen) in self.listen.iter().enumerate() {
            if let Some(other) = self.listen[..place].iter().find(|other| collide(***other, **listen)) {
                let words = format!(
                    "{} and {} collide: expected each address once, and [::] has IPv4 as well",
                    **listen, **other
                );
                return Err(listen.fault(words));
            }
            if self.admin.address().is_some_and(|admin| collide(admin, **listen)) {
                let (one, other) = (spelled(listen, "listen"), spelled(&self.admin, "admin"));
                let words = format!("{one} {} and {other} collide: expected different ports", **listen);
                return Err(listen.fault(words));
            }
        }
        Ok(())
    }

    /// A backend that a source tells of: the same is expected of it as of one in the file.
    #[cfg_attr(
        not(any(feature = "dns", feature = "etcd", feature = "file", feature = "kubernetes")),
        expect(dead_code, reason = "no sources")
    )]
    pub fn discovered(&self, url: &str) -> Result<Member<Origin>, BoxError> {
        let origin = Origin::read(url)?;
        if self.is_at(&origin) { Err(itself(&origin).into()) } else { Ok(origin.into()) }
    }

    /// Whether a backend is at an address of ours, as far as its name says.
    pub fn is_at(&self, origin: &Origin) -> bool {
        let own = self.listen.iter().map(|listen| **listen).chain(self.admin.address());
        own.into_iter().any(|own| is_same(origin, own))
    }
}

fn itself(origin: &Origin) -> String {
    format!("backend {origin} is the gateway itself: expected another address")
}

/// The name of a setting where it was set.
fn spelled<T>(value: &Value<T>, key: &str) -> String {
    if value.place.is_some() { format!("server.{key}") } else { format!("--{key}") }
}

/// Whether both cannot be listened on at once.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn is_same(origin: &Origin, own: SocketAddr) -> bool {
    let here = match origin.host().parse::<IpAddr>() {
        Ok(ip) => ip == own.ip() || (own.ip().is_unspecified() && ip.is_loopback()),
        Err(_) => origin.host() == "localhost" && (own.ip().is_loopback() || own.ip().is_unspecified()),
    };
    here && origin.port() == own.port()
}
