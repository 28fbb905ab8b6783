//! A gateway starts, is told of, is followed by the next one, and ends: the real binary.

mod common;

use common::{
    Server,
    gateway::{ConfigFile, Gateway, binary, free_port, run},
    gateway_load::Load,
    get, says,
};
use std::{
    collections::VecDeque,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::Command,
    time::Duration,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gateways_that_follow_each_other_on_one_port_lose_no_request() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let port = free_port();
    let arguments = ["--admin", "off", "--workers", "2", "--log", "text", "--backend", &one, "--backend", &two];
    let mut serves = Gateway::start_at(port, &arguments);
    let load = Load::on(&serves.url, 8);
    for _ in 0..8 {
        load.more(100).await;
        let next = Gateway::start_at(port, &arguments);
        load.more(100).await;
        assert_eq!(std::mem::replace(&mut serves, next).stop(), Some(0));
    }
    load.more(100).await;
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_gateways_on_one_port_are_replaced_one_after_the_other_and_lose_no_request() {
    let server = Server::http(says("one")).await;
    let (port, url) = (free_port(), server.url());
    let arguments = ["--admin", "off", "--workers", "2", "--log", "text", "--backend", &url];
    let mut both = VecDeque::from([Gateway::start_at(port, &arguments), Gateway::start_at(port, &arguments)]);
    let load = Load::on(&both[0].url, 8);
    for _ in 0..8 {
        both.push_back(Gateway::start_at(port, &arguments));
        load.more(100).await;
        assert_eq!(both.pop_front().unwrap().stop(), Some(0));
        load.more(100).await;
    }
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_one_says_that_it_takes_over_and_without_reuse_port_there_is_none() {
    let server = Server::http(says("one")).await;
    let port = free_port();
    let first = Gateway::start_at(port, &["--admin", "off", "--backend", &server.url()]);
    let mut command = Command::new(binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "off", "--backend", &server.url()]);
    let next = Gateway::spawn(command, port);
    next.line(&format!("INFO: Another process listens on 127.0.0.1:{port} as well: new connections come here"));
    next.line("INFO: Load balancer running");
    for _ in 0..10 {
        assert_eq!(get(&first.url).await, (200, "one".into()));
        next.line("RESPONSE: GET / ");
    }

    let alone = ConfigFile::new(&format!("[server]\nreuse_port = false\n[pools.web]\nbackends = [{:?}]", server.url()));
    let output = run(&["--listen", &format!("127.0.0.1:{port}"), "--admin", "off", "--config", alone.path()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}: Address already in use")), "{said}");
}

/// Starts a gateway that inherits `socket`, as a service manager would.
fn start_with(socket: &TcpListener, arguments: &[&str]) -> Gateway {
    let address = socket.local_addr().unwrap();
    let mut command = Command::new("sh");
    // The number of the process stays the same.
    let script = "exec 3<&0; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(binary()).args(arguments);
    command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
    Gateway::spawn(command, address.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_inherited_socket_is_served_and_loses_nothing_while_nobody_serves_it() {
    let server = Server::http(says("one")).await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = socket.local_addr().unwrap().to_string();
    let url = server.url();
    let arguments = ["--listen", &listen, "--admin", "off", "--workers", "2", "--backend", &url];
    let mut serves = start_with(&socket, &arguments);
    serves.line("INFO: Load balancer running");
    let load = Load::on(&serves.url, 6);
    for _ in 0..4 {
        load.more(50).await;
        // Nobody serves for a while: connections wait in the socket.
        assert_eq!(serves.stop(), Some(0));
        serves = start_with(&socket, &arguments);
        serves.line("INFO: Load balancer running");
    }
    load.more(50).await;
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    drop(serves);

    let unwanted = start_with(&socket, &["--listen", "127.0.0.1:0", "--admin", "off"]);
    assert_eq!(unwanted.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_of_start_reload_and_stop() {
    let server = Server::http(says("one")).await;
    let file = ConfigFile::new(&format!("[pools.web]\nbackends = [{:?}]", server.url()));
    let path = file.as_path().with_extension("socket");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let read = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..read].to_vec()).unwrap()
    };
    let port = free_port();
    let mut command = Command::new(binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "off", "--config", file.path()]);
    command.env("NOTIFY_SOCKET", &path);
    let gateway = Gateway::spawn(command, port);
    assert_eq!(told(), "READY=1");
    assert_eq!(get(&gateway.url).await, (200, "one".into()));
    for good in [true, false] {
        if !good {
            file.write("[pools");
        }
        gateway.signal("-HUP");
        let reloading = told();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        assert_eq!(told(), "READY=1");
    }
    gateway.signal("-TERM");
    // The file may have been looked at once more.
    while told() != "STOPPING=1" {}
    std::fs::remove_file(path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_while_one_pool_can_serve() {
    let server = Server::http(says("one")).await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let pool = |name: &str, url: &str| {
        format!(
            "[pools.{name}]\nbackends = [{url:?}]\nhealth = {{ interval = \"100ms\", fast_interval = \"100ms\" }}\n"
        )
    };
    let routes = "[[routes]]\npath_prefix = \"/a\"\npool = \"a\"\n[[routes]]\npool = \"b\"";
    let file = ConfigFile::new(&format!("{}{}{routes}", pool("a", &dead), pool("b", &server.url())));
    let admin = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&["--admin", &admin, "--config", file.path()]);
    gateway.line(&format!("HEALTH: UNHEALTHY {dead}"));
    let ready = || async { get(format!("http://{admin}/readyz")).await.0 };
    assert_eq!(ready().await, 200);
    let address = server.kill().await;
    common::until(|| async { ready().await == 503 }).await;
    let _again = Server::http_at(address, says("one")).await;
    common::until(|| async { ready().await == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_longer_than_the_grace_is_broken_off() {
    let silent = Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let file = ConfigFile::new(&format!(
        "[server]\nshutdown_grace = \"300ms\"\n[pools.web]\nbackends = [{:?}]\nhealth = \"tcp\"",
        silent.url()
    ));
    let gateway = Gateway::by(&file);
    let url = gateway.url.clone();
    let request = tokio::spawn(async move {
        use tower::ServiceExt;
        let request = http::Request::get(url).body(http_body_util::Full::<bytes::Bytes>::default()).unwrap();
        common::client().oneshot(request).await.is_err()
    });
    gateway.line("REQUEST: ");
    gateway.signal("-TERM");
    gateway.line("ERROR: Stopped with requests in flight after 300ms");
    gateway.line("INFO: Stopped");
    assert_eq!(gateway.code(), Some(0));
    assert!(request.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_in_flight_until_it_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let echo = Server::raw(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        const SWITCHES: &[u8] =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        _ = stream.write_all(SWITCHES).await;
        let (mut read, mut write) = stream.split();
        _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let file = ConfigFile::new(&format!("[pools.web]\nbackends = [{:?}]\nhealth = \"off\"", echo.url()));
    let gateway = Gateway::by(&file);
    let mut client = tokio::net::TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    gateway.signal("-TERM");
    gateway.line("INFO: Stopping");
    // Longer than whoever has nothing in flight is waited for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut word = [0; 5];
    client.write_all(b"still").await.unwrap();
    client.read_exact(&mut word).await.expect("it was cut");
    assert_eq!(&word, b"still");
    drop(client);
    assert_eq!(gateway.code(), Some(0));
}

/// What comes back over TLS, of which nobody who asks knows a key.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_more_does_not_hold_up_a_stop() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::http(says("one")).await;
    let directory = std::env::temp_dir().join(format!("gateway-stop-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| directory.join(name));
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let pool = format!("[pools.web]\nbackends = [{:?}]\nhealth = \"off\"", server.url());
    // Longer than anybody waits for a line.
    let grace = "[server]\nshutdown_grace = \"1h\"";
    let asks: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    // GET / of a, over HTTP/2.
    let asks_http2 = [PREFACE, &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a']].concat();
    let in_the_clear: [(&str, &[u8]); 7] = [
        ("nothing", b""),
        ("a letter", b"G"),
        ("the middle of a head", b"GET / HTTP/1.1\r\nHost: a\r\nX: "),
        ("a request, and nothing more", asks),
        ("the middle of a second head", &[asks, b"GET / HTT"].concat()),
        ("the preface of HTTP/2", PREFACE),
        ("a request over HTTP/2, and nothing more", &asks_http2),
    ];
    let over_tls: [(&str, &[u8]); 2] = [("nothing", b""), ("the beginning of a handshake", HELLO)];
    let tls = format!("tls = {{ cert = {chain:?}, key = {key:?} }}");
    for (tls, beginnings) in [("", &in_the_clear[..]), (&*tls, &over_tls)] {
        let file = ConfigFile::new(&format!("{grace}\n{tls}\n{pool}"));
        let gateway = Gateway::by(&file);
        let mut held = Vec::new();
        for (_, begins) in beginnings {
            let address = gateway.url.trim_start_matches("http://");
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(begins).await.unwrap();
            held.push(stream);
        }
        // All that could be answered is.
        for (stream, (_, begins)) in held.iter_mut().zip(beginnings) {
            if begins.starts_with(asks) || *begins == asks_http2 {
                let mut word = Vec::new();
                while !word.ends_with(b"one") {
                    word.push(stream.read_u8().await.unwrap());
                }
            }
        }
        gateway.signal("-TERM");
        gateway.line("INFO: Stopping");
        gateway.line("INFO: Stopped");
        assert_eq!(gateway.code(), Some(0));
        for (mut stream, (name, _)) in held.into_iter().zip(beginnings) {
            let mut rest = Vec::new();
            _ = stream.read_to_end(&mut rest).await;
            assert!(!rest.starts_with(b"HTTP/1.1 "), "{name}: {:?}", String::from_utf8_lossy(&rest));
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_over_http2_is_taken_to_its_end_after_a_stop() {
    // Twice what the client takes at once. The gateway has all of it from its backend long before.
    const WINDOW: u32 = 4_000;
    const BODY: usize = 2 * WINDOW as usize;
    let server = Server::http(says("x".repeat(BODY))).await;
    let file = ConfigFile::new(&format!("[pools.web]\nbackends = [{:?}]\nhealth = \"off\"", server.url()));
    let gateway = Gateway::by(&file);
    let stream = tokio::net::TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    let client = h2::client::Builder::new().initial_window_size(WINDOW).handshake::<_, bytes::Bytes>(stream).await;
    let (client, connection) = client.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(&gateway.url).body(()).unwrap();
    let (answer, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    gateway.signal("-TERM");
    gateway.line("INFO: Stopping");
    let mut taken = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap_or_else(|error| panic!("{error} after {taken}"));
        taken += data.len();
        // Longer than who says nothing at all is waited for.
        if taken == WINDOW as usize {
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(taken, BODY);
    gateway.line("INFO: Stopped");
    assert_eq!(gateway.code(), Some(0));
}
