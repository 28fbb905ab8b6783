//! TLS towards clients, by the gateway's own server and a real client.

#[path = "common/gateway.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part of it is used")]
mod gateway;
#[path = "common/wire.rs"]
mod wire;

use gateway::{ConfigFile, Gateway};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use std::{fs, io, path::PathBuf, process, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::ServerName,
        version::{TLS12, TLS13},
    },
};
use wire::{OK, Wire, doze::AFTER, header, limits::Limits, pass, tls::Tls, to_end};

/// A directory with `chain.pem` and `key.pem`, which goes when this does.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tower-balancer-{name}-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn chain(&self) -> PathBuf {
        self.0.join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    /// Writes a new certificate for `localhost`, and tells who trusts it.
    fn write(&self) -> Arc<RootCertStore> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.chain(), cert.pem()).unwrap();
        fs::write(self.key(), signing_key.serialize_pem()).unwrap();
        let mut trusted = RootCertStore::empty();
        trusted.add(cert.der().clone()).unwrap();
        Arc::new(trusted)
    }

    fn load(&self) -> Tls {
        Tls::load(&self.chain(), &self.key()).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

async fn connect(
    wire: &Wire,
    trusted: &Arc<RootCertStore>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    over(wire.connect().await, trusted, version, protocols).await
}

async fn over(
    stream: TcpStream,
    trusted: &Arc<RootCertStore>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_protocol_versions(&[version]).unwrap();
    let mut config = config.with_root_certificates(Arc::clone(trusted)).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().into()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn a_client_is_served_over_either_version_in_secrecy_that_outlives_the_key() {
    let files = Files::new("versions");
    let trusted = files.write();
    let wire = Wire::encrypted(OK, Limits::default(), files.load()).await;
    for version in [&TLS12, &TLS13] {
        let mut stream = connect(&wire, &trusted, version, &["http/1.1"]).await.unwrap();
        let suite = format!("{:?}", stream.get_ref().1.negotiated_cipher_suite().unwrap().suite());
        // Of TLS 1.3 there are no others.
        assert!(suite.starts_with("TLS13_") || suite.starts_with("TLS_ECDHE_"), "{suite}");
        assert!(suite.contains("GCM") || suite.contains("POLY1305"), "{suite}");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer:?}");
        assert_eq!(header(&wire.seen()[0], "x-forwarded-proto"), ["https"]);
    }
}

#[tokio::test]
async fn http2_is_liked_better_and_begins_by_negotiation() {
    let files = Files::new("alpn");
    let trusted = files.write();
    let wire = Wire::encrypted(OK, Limits::default(), files.load()).await;
    let stream = connect(&wire, &trusted, &TLS13, &["http/1.1", "h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(()).unwrap();
    let (answer, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert!(connect(&wire, &trusted, &TLS13, &["spdy/3"]).await.is_err());
}

#[tokio::test]
async fn who_says_nothing_for_a_while_can_ask_again() {
    let files = Files::new("doze");
    let trusted = files.write();
    let wire = Wire::encrypted(OK, Limits::default(), files.load()).await;
    let mut stream = connect(&wire, &trusted, &TLS13, &[]).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            answer.push(stream.read_u8().await.unwrap());
        }
        pass(AFTER).await;
    }
    stream.shutdown().await.unwrap();
    // With a word of farewell: else this is an error.
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_refused_in_the_clear_is_refused_over_tls() {
    let files = Files::new("strict");
    let trusted = files.write();
    let wire = Wire::encrypted(OK, Limits::default(), files.load()).await;
    let mut stream = connect(&wire, &trusted, &TLS13, &[]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    // What is not TLS at all is no request.
    let answer = wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!answer.contains("HTTP"), "{answer:?}");
    assert_eq!(wire.seen(), [""; 0]);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let files = Files::new("slow");
    files.write();
    let limits = Limits { head_time: Duration::from_millis(100), ..Limits::default() };
    let wire = Wire::encrypted(OK, limits, files.load()).await;
    for begins in [&b""[..], b"\x16\x03\x01\x02"] {
        let mut stream = wire.connect().await;
        stream.write_all(begins).await.unwrap();
        to_end(&mut stream).await;
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_for_those_who_come_and_a_bad_one_is_not_taken() {
    let files = Files::new("reload");
    let before = files.write();
    let tls = files.load();
    let wire = Wire::encrypted(OK, Limits::default(), tls.clone()).await;
    let mut kept = connect(&wire, &before, &TLS13, &[]).await.unwrap();
    let after = files.write();
    assert!(connect(&wire, &before, &TLS13, &[]).await.is_ok(), "nobody said that it changed");
    tls.reload().unwrap();
    assert!(connect(&wire, &before, &TLS13, &[]).await.is_err());
    assert!(connect(&wire, &after, &TLS13, &[]).await.is_ok());
    // Who was there stays.
    kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok"), "{answer:?}");

    fs::write(files.key(), "nothing").unwrap();
    let problem = tls.reload().unwrap_err().to_string();
    assert!(problem.contains("key.pem"), "{problem}");
    assert!(connect(&wire, &after, &TLS13, &[]).await.is_ok(), "a broken file took the certificate away");
}

#[test]
fn files_that_do_not_go_together_are_named() {
    let files = Files::new("bad");
    files.write();
    let problem = |files: &Files| Tls::load(&files.chain(), &files.key()).err().expect("it was taken").to_string();
    fs::write(files.key(), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(problem(&files).contains("key.pem"), "{}", problem(&files));
    fs::write(files.chain(), "").unwrap();
    assert!(problem(&files).contains("chain.pem: expected a certificate"), "{}", problem(&files));
    fs::remove_file(files.chain()).unwrap();
    assert!(problem(&files).contains("chain.pem"), "{}", problem(&files));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_has_its_certificate_from_its_file_and_reads_it_again_when_told() {
    let files = Files::new("gateway");
    let before = files.write();
    let file = ConfigFile::new(&format!(
        "[server]\ntls = {{ cert = {:?}, key = {:?} }}\n[pools.web]\nbackends = [\"http://127.0.0.1:9\"]\nhealth = \"off\"",
        files.chain(),
        files.key()
    ));
    let gateway = Gateway::by(&file);
    let address = gateway.url.strip_prefix("http://").unwrap();
    let connect = async |trusted| over(TcpStream::connect(address).await.unwrap(), trusted, &TLS13, &["h2"]).await;
    assert!(connect(&before).await.is_ok());

    let after = files.write();
    gateway.signal("-HUP");
    gateway.line("INFO: Configuration reloaded");
    assert!(connect(&before).await.is_err());
    assert!(connect(&after).await.is_ok());

    fs::write(files.key(), "nothing").unwrap();
    gateway.signal("-HUP");
    gateway.line("ERROR: Configuration not reloaded");
    assert!(connect(&after).await.is_ok(), "a broken file took the certificate away");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_the_middle_of_a_handshake_at_a_stop_is_answered() {
    let files = Files::new("stop");
    let trusted = files.write();
    let file = ConfigFile::new(&format!(
        "[server]\ntls = {{ cert = {:?}, key = {:?} }}\n[pools.web]\nbackends = [\"http://127.0.0.1:9\"]\nhealth = \"off\"",
        files.chain(),
        files.key()
    ));
    let gateway = Gateway::by(&file);
    let stream = TcpStream::connect(gateway.url.strip_prefix("http://").unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    gateway.signal("-TERM");
    gateway.line("INFO: Stopping");
    // Until those who have said nothing in the clear are let go.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut stream = over(stream, &trusted, &TLS13, &["http/1.1"]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    // Of its backend there is nothing.
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connection: close"), "{answer:?}");
    assert_eq!(gateway.code(), Some(0));
}
