//! Who may ask the admin server, and who may change something: the real binary, requests byte by byte.

mod common;

use common::{
    Server,
    admin::{Operator, at},
    gateway::{ConfigFile, Gateway, run},
    says,
};
use std::process::Command;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const TOKEN: &str = "correct-horse-battery-staple";

/// The status of the answer to what is sent as it is, and the answer.
async fn raw(address: &str, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("{head}: {answer:?}")).parse().unwrap();
    (status, answer)
}

async fn gateway(server: &str, backend: &Server) -> (Operator, Gateway, ConfigFile) {
    let file = ConfigFile::new(&format!("[server]\n{server}\n[pools.web]\nbackends = [{:?}]", backend.url()));
    let operator = Operator::new();
    let gateway = Gateway::start(&["--admin", &operator.address, "--config", file.path()]);
    gateway.line("HEALTH: ");
    (operator, gateway, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_another_origin_changes_anything() {
    let server = Server::http(says("one")).await;
    let (operator, _gateway, _file) = gateway("admin_host = \"gateway.internal\"", &server).await;
    let address = &operator.address;
    let port = address.rsplit_once(':').unwrap().1;
    let disable = at("web", &server.url(), "/disable?force=true");
    let own = format!("http://{address}");
    for (host, headers, status) in [
        // What a browser adds to the requests of our own page, and of another.
        (address.as_str(), format!("Origin: {own}\r\nSec-Fetch-Site: same-origin\r\n"), 200),
        (address, "Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n".into(), 403),
        (address, "Sec-Fetch-Site: cross-site\r\n".into(), 403),
        (address, "Sec-Fetch-Site: same-site\r\n".into(), 403),
        (address, "Origin: http://evil.example\r\n".into(), 403),
        (address, "Origin: null\r\n".into(), 403),
        (address, format!("Origin: http://localhost:{port}\r\n"), 403),
        (address, format!("Origin: http://{address}.evil.example\r\n"), 403),
        (address, "Origin: http://127.0.0.1:1\r\n".into(), 403),
        (address, format!("Origin: ftp://{address}\r\n"), 403),
        (address, format!("Origin: {own}\r\nSec-Fetch-Site: cross-site\r\n"), 403),
        // No browser at all.
        (address, String::new(), 200),
        // By other names of ours.
        (&format!("localhost:{port}"), format!("Origin: http://LOCALHOST:{port}\r\n"), 200),
        (&format!("Gateway.Internal.:{port}"), String::new(), 200),
        ("[::1]", String::new(), 200),
    ] {
        // Whoever is refused has changed nothing.
        operator.post(&at("web", &server.url(), "/enable")).await;
        let (told, answer) =
            raw(address, &format!("POST {disable} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 0\r\n")).await;
        assert_eq!(told, status, "{host} {headers}: {answer}");
        let state = operator.backend("web", &server.url()).await["state"].clone();
        assert_eq!(state, if status == 200 { "disabled" } else { "healthy" }, "{host} {headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_by_a_strange_name() {
    let server = Server::http(says("one")).await;
    let (operator, _gateway, _file) = gateway("", &server).await;
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "xlocalhost", "gateway.internal"] {
        for path in ["/", "/pools", "/events", "/openapi.json", "/nowhere"] {
            let (status, answer) = raw(&operator.address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n")).await;
            assert_eq!(status, 403, "{host} {path}: {answer}");
            assert!(
                answer.contains(&format!("host \\\"{host}\\\" is not known here: expected an IP address")),
                "{answer}"
            );
            // The name in the target is the one that counts (RFC 9112 3.2.2), and has to be the same.
            let (status, _) =
                raw(&operator.address, &format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n")).await;
            assert_eq!(status, 403, "{host} {path}");
        }
    }
    // Machines that only want to know whether it is alive may call it anything.
    let (status, _) = raw(&operator.address, "GET /healthz HTTP/1.1\r\nHost: lb-check\r\n").await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_everything_needs_it_but_what_says_nothing() {
    let server = Server::http(says("one")).await;
    let (operator, gateway, file) = gateway(&format!("admin_token = {TOKEN:?}"), &server).await;
    let shows = |token: &str| operator.with("authorization", &format!("Bearer {token}"));
    let (good, wrong) = (shows(TOKEN), shows("correct-horse-battery-stapler"));
    let drain = at("web", &server.url(), "/drain?force=true");
    for (method, path) in [
        ("GET", "/pools"),
        ("GET", "/events"),
        ("GET", "/openapi.json"),
        ("GET", "/pools/web/explain"),
        ("GET", "/nowhere"),
        ("POST", "/pools/web/backends"),
        ("POST", &drain),
        ("DELETE", &at("web", &server.url(), "?force=true")),
        ("PUT", &at("web", &server.url(), "/weight")),
    ] {
        let refused = operator.ask(method, path, "").await;
        assert_eq!((refused.status, &refused.headers["www-authenticate"]), (401, &"Bearer".parse().unwrap()), "{path}");
        assert_eq!(refused.error(), "expected a header authorization: Bearer, with the token");
        let refused = wrong.ask(method, path, "").await;
        assert_eq!((refused.status, refused.error()), (401, "this is not the token".into()), "{path}");
    }
    for almost in ["", "Bearer", "Bearer ", &format!("Basic {TOKEN}"), &TOKEN[1..], &format!("Bearer {TOKEN}x")] {
        assert_eq!(operator.with("authorization", almost).get("/pools").await.status, 401, "{almost:?}");
    }
    // Neither in the address, where it would be kept in logs.
    assert_eq!(operator.get(&format!("/pools?token={TOKEN}&access_token={TOKEN}")).await.status, 401);
    gateway.line("ERROR: an operator at 127.0.0.1:");
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(operator.get(path).await.status, 200, "{path}");
    }
    assert_eq!(good.pools().await["pools"][0]["available"], 1);
    assert_eq!(operator.with("authorization", &format!("bearer {TOKEN}")).get("/pools").await.status, 200);
    assert_eq!(good.post(&drain).await.json()["state"], "draining");

    // Another token in the file is the token from then on, and also where there is none in the file any more: nobody can know
    // where the socket is seen, nor why the one before was replaced.
    let text = |server_table: &str| format!("[server]\n{server_table}\n[pools.web]\nbackends = [{:?}]", server.url());
    let next = "another-token-of-good-length";
    file.write(&text(&format!("admin_token = {next:?}")));
    gateway.line("INFO: Configuration reloaded");
    assert_eq!(good.get("/pools").await.status, 401);
    assert_eq!(shows(next).get("/pools").await.status, 200);
    file.write(&text(""));
    gateway.line("INFO: Configuration reloaded");
    assert_eq!((operator.get("/pools").await.status, good.get("/pools").await.status), (401, 401));
    assert_eq!(shows(next).get("/pools").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_guarded_and_holds_no_secret() {
    let server = Server::http(says("one")).await;
    let (operator, _gateway, _file) = gateway(&format!("admin_token = {TOKEN:?}"), &server).await;
    let page = operator.get("/").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(nonce.len(), 32);
    for part in
        ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(page.body.contains("data-token=\"required\"") && !page.body.contains(TOKEN) && !page.body.contains("{{"));
    // Nothing is asked of anybody else, nothing is put in as markup, and no style or handler stands in an attribute.
    for never in [
        "src=",
        "http://",
        "https://",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        " style=",
        " onclick=",
    ] {
        let harmless = page.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!harmless.contains(never), "{never}");
    }
    let again = operator.get("/").await;
    assert_ne!(again.headers["content-security-policy"], policy);
    for path in ["/", "/pools", "/healthz", "/nowhere"] {
        let answer = operator.get(path).await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.headers[name], value, "{path} {name}");
        }
    }
}

#[test]
fn beyond_loopback_there_is_a_token_or_nothing() {
    let file = ConfigFile::new("[server]\nadmin = \"0.0.0.0:3100\"\n[pools.web]\nbackends = [\"http://a:1\"]");
    for arguments in [&["--config", file.path()][..], &["--check", "--config", file.path()]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        let words =
            ":2: server.admin: server.admin 0.0.0.0:3100 is not a loopback address: expected server.admin_token or";
        assert!(said.contains(words), "{said}");
        assert!(output.stdout.is_empty());
    }
    let output = run(&["--admin", "[::]:3100"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--admin [::]:3100 is not a loopback address"), "{said}");
}

#[test]
fn a_token_may_come_from_a_file_or_a_variable_and_is_never_printed() {
    let secret = ConfigFile::new(&format!("{TOKEN}\n"));
    let pool = "[pools.web]\nbackends = [\"http://a:1\"]";
    let check = |server: &str| {
        let file = ConfigFile::new(&format!("[server]\n{server}\n{pool}"));
        let mut command = Command::new(common::gateway::binary());
        command
            .args(["--check", "--config", file.path()])
            .env("TEST_ADMIN_TOKEN", TOKEN)
            .env("TEST_SHORT", "swordfish");
        let output = command.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!said.contains(TOKEN) && !said.contains("swordfish"), "{said}");
        (output.status.code().unwrap(), said)
    };
    let path = secret.path();
    for token in ["admin_token = \"${TEST_ADMIN_TOKEN}\"".to_owned(), format!("admin_token_file = {path:?}")] {
        let (code, said) = check(&format!("admin = \"0.0.0.0:3100\"\n{token}"));
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("admin            0.0.0.0:3100, with a token\n"), "{said}");
        assert!(
            said.contains("warning          the admin server is reached from other machines without TLS"),
            "{said}"
        );
    }
    let (_, said) = check("admin_host = [\"gateway.internal\", \"gw\"]");
    assert!(said.contains("admin host       gateway.internal\n") && said.contains("without a token\n"), "{said}");
    for (server, words) in [
        ("admin_token = \"${TEST_SHORT}\"", ":2: server.admin_token: invalid token of 9 letters: expected 16"),
        ("admin_token = \"sixteen letters and more\"", "some of which cannot stand in a header"),
        ("admin_token_file = \"/nowhere\"", ":2: server.admin_token_file: /nowhere: cannot be read: No such file"),
        (&format!("admin_token = {TOKEN:?}\nadmin_token_file = {path:?}"), "expected one of the two"),
        ("admin_host = \"http://a\"", ":2: server.admin_host: invalid host \"http://a\": expected a name such as"),
        ("admin_host = \"a:80\"", "without a port"),
    ] {
        let (code, said) = check(server);
        assert_eq!(code, 2, "{server}: {said}");
        assert!(said.contains(words), "{server}: {said}");
    }
}
