//! Texts that mean something: what is read is written so that it is read as the same, in one way, and means what the text says.

use http::{HeaderMap, HeaderValue, Request, Uri, header::COOKIE};
use std::{
    fmt::{Debug, Display},
    net::{IpAddr, SocketAddr},
    str::FromStr,
};
use tower_balancer::{
    backend::Origin,
    http::{Network, Peer, RequestKey},
};

/// What `text` is, which is the same however often it is written and read.
fn read<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value = text.parse::<T>().ok()?;
    let written = value.to_string();
    let again = written.parse::<T>().unwrap_or_else(|_| panic!("{text:?} is written as {written:?}, which is none"));
    assert_eq!(again, value, "{text:?} is written as {written:?}, which is another");
    assert_eq!(again.to_string(), written);
    Some(value)
}

/// A line of text, then headers for a request of which a key is read.
pub fn check(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else { return };
    if let Some(network) = read::<Network>(text) {
        has_what_begins_as_it_does(network, text);
    }
    if let Some(origin) = read::<Origin>(text) {
        is_where_the_url_says(&origin, text);
    }
    if let Some(key) = read::<RequestKey>(text) {
        is_of_the_first_that_there_is(&key, &super::headers(&data[end..]));
    }
}

/// An address with one bit flipped is in it if that bit is none of those that count.
fn has_what_begins_as_it_does(network: Network, text: &str) {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, bits.parse().ok()));
    let own = address.parse::<IpAddr>().expect("it begins with an address").to_canonical();
    let width = if own.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    assert!(bits <= width && network.contains(own), "{text:?}");
    for bit in 0..width {
        let flipped: IpAddr = match own {
            IpAddr::V4(own) => (own.to_bits() ^ (1 << (width - 1 - bit))).to_be_bytes().into(),
            IpAddr::V6(own) => (own.to_bits() ^ (1 << (width - 1 - bit))).to_be_bytes().into(),
        };
        // One that is now of the other family is in none of this one.
        let same_family = flipped.to_canonical().is_ipv4() == own.is_ipv4();
        assert_eq!(network.contains(flipped), bit >= bits && same_family, "{flipped} in {text:?}");
    }
}

/// By the parser of URIs, and in no other way than the shortest.
fn is_where_the_url_says(origin: &Origin, text: &str) {
    let written = origin.to_string();
    let uri: Uri = text.parse().expect("an origin is a URI");
    let host = uri.host().expect("it has a host").to_ascii_lowercase();
    let default = if *origin.scheme() == http::uri::Scheme::HTTPS { 443 } else { 80 };
    assert_eq!(origin.scheme().as_str(), uri.scheme_str().unwrap_or_default().to_ascii_lowercase());
    assert_eq!(origin.authority().host(), host);
    assert_eq!(origin.port(), uri.port_u16().unwrap_or(default));
    let port = if origin.port() == default { String::new() } else { format!(":{}", origin.port()) };
    assert_eq!(written, format!("{}://{host}{port}", origin.scheme()));
    for alike in [written.to_ascii_uppercase(), format!("{written}/")] {
        assert_eq!(alike.parse::<Origin>().as_ref(), Ok(origin), "{alike:?}");
    }
}

/// Each source is asked by itself, and the first that has something decides, whatever else is in the request.
fn is_of_the_first_that_there_is(key: &RequestKey, headers: &HeaderMap) {
    const TARGET: &str = "/path?a=1&b=&c=2&x-user=3";
    let peer = Peer::new(SocketAddr::from(([192, 0, 2, 7], 7)), &http::uri::Scheme::HTTP);
    let mut request = Request::get(TARGET).extension(peer).body(()).expect("a request");
    *request.headers_mut() = headers.clone();
    let found = key.of(&request);
    let words = key.to_string();
    // Only in the names of cookies and parameters could there be commas, and there they part sources as well.
    let sources: Vec<_> = words.split(", ").map(|word| (word, word.parse::<RequestKey>().expect("a source"))).collect();
    assert_eq!(found, sources.iter().find_map(|(_, source)| source.of(&request)), "{words}");
    for (word, source) in &sources {
        let has = source.of(&request).is_some();
        match word.split_once(':') {
            None => assert!(has, "{word} is there in any case"),
            Some(("header", name)) => {
                assert_eq!(has, headers.get(name).is_some_and(|value| !value.is_empty()), "{word}");
            }
            Some(("query", name)) => {
                let pairs = TARGET["/path?".len()..].split('&').filter_map(|pair| pair.split_once('='));
                let first = pairs.clone().find(|(of, _)| *of == name);
                // A name with a `=` in it is the beginning of a pair as well.
                assert!(name.contains('=') || has == first.is_some_and(|(_, value)| !value.is_empty()), "{word}");
            }
            // What it is compared with is what stands in the one cookie of the request.
            Some(("cookie", name)) => {
                let with = |value: &str| {
                    let mut request = Request::new(());
                    let cookie = HeaderValue::try_from(format!("{name}={value}")).ok()?;
                    request.headers_mut().insert(COOKIE, cookie);
                    source.of(&request)
                };
                assert!(with("").is_none() || name.contains([';', '=', '"']), "{word} is empty");
                assert!(name.contains(';') || with("1") == with("\"1\""), "{word}: quotes count");
                assert!(
                    name.contains(';') || with("1").is_none() || with("1") != with("2"),
                    "{word}: values do not count"
                );
            }
            Some(_) => panic!("{word} is no source"),
        }
    }
    let mut other = request;
    other.headers_mut().insert("x-nobody-asks-for-this", HeaderValue::from_static("1"));
    assert!(words.contains("x-nobody-asks-for-this") || key.of(&other) == found, "{words}");
}
