/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// What the backend likes better of the two, where TLS lets it say so (RFC 7301); else HTTP/1.1.
    Auto,
}

#[cfg(feature = "tls")]
impl Protocol {
    /// Its names in ALPN, the one that we like better first.
    pub(super) fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[H2],
            Self::Auto => &[H2, b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// HTTP/2 over TLS.
#[cfg(feature = "tls")]
pub(super) const H2: &[u8] = b"h2";
