use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// Addresses with a common beginning, as in `10.0.0.0/8`, `2001:db8::/32` or a single address (RFC 4632, RFC 4291 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` is in it. One of IPv4 that is mapped into IPv6 is taken as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            _ => return false,
        };
        differ >= self.bits.into()
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, bits: if address.is_ipv4() { 32 } else { Ipv6Addr::BITS as u8 } }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    /// # Errors
    ///
    /// Where it is neither an address nor one followed by `/` and a number of bits, up to 32 or 128.
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.into());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let whole = Self::from(address.parse::<IpAddr>().map_err(|_| invalid())?);
        let Some(bits) = bits else { return Ok(whole) };
        let bits = bits.parse().ok().filter(|&bits| bits <= whole.bits).ok_or_else(invalid)?;
        Ok(Self { bits, ..whole })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// A text that is no [`Network`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNetwork(Box<str>);

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no network: expected an address such as 10.1.2.3 or a prefix such as 10.0.0.0/8", self.0)
    }
}

impl Error for InvalidNetwork {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_begins_as_it_does() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3/0", "255.1.1.1", "::1"),
            ("2001:db8::/32", "2001:db8:1::", "2001:db9::"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for text in ["", "10.0.0/8", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/", "a/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
