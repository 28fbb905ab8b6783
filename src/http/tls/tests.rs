use super::*;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

fn certificate() -> (String, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

#[test]
fn what_is_wrong_is_named() {
    let (chain, key) = certificate();
    let tls = TlsConfig::new;
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (result, words) in [
        (tls().ca(""), "invalid CA: expected certificates in PEM, found none"),
        (tls().ca(&key), "invalid CA: expected certificates in PEM, found none"),
        (tls().ca("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "invalid CA: "),
        (tls().identity("", &key), "invalid certificate: expected certificates in PEM, found none"),
        (tls().identity(&chain, ""), "invalid key: "),
        (tls().identity(&chain, other), "invalid key: "),
        (tls().server_name("a b"), "invalid server name: \"a b\" is neither a DNS name nor an IP address"),
        (tls().server_name(""), "invalid server name: \"\" is neither"),
    ] {
        let problem = result.unwrap_err().to_string();
        assert!(problem.starts_with(words), "{problem}");
    }
    for name in ["a.example", "a_b", "10.0.0.1", "::1"] {
        tls().server_name(name).unwrap();
    }
}

#[test]
fn a_key_is_not_shown() {
    let (chain, key) = certificate();
    let tls = TlsConfig::new().ca(&chain).unwrap().identity(&chain, &key).unwrap();
    assert_eq!(format!("{tls:?}"), "TlsConfig { roots: Some(1), identity: true, server_name: None }");
}
