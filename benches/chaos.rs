//! What users notice when backends fail, behind this gateway and behind others, with the same script.
//!
//! ```text
//! cargo bench --bench chaos -- [--seconds N] [--scenario NAME]
//! ```
//!
//! Three backends, 200 GETs a second over 8 connections. After a second, for half of the time, one of the three is
//! disturbed. HAProxy and nginx run where they are installed.

#[path = "../tests/common/chaos.rs"]
mod chaos;

use chaos::{Answer, Backend, Load, Mode, be_a_backend_if_told, free_port};
use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A backend needs no arguments to know what it is.
const ENTRY: [&str; 0] = [];

const SCENARIOS: [&str; 8] = ["killed", "stopped", "busy", "broken", "silent", "lying", "slow", "flapping"];

/// Who stands before the backends.
#[derive(Clone, Copy, Debug)]
enum Proxy {
    Gateway,
    Haproxy,
    Nginx,
}

struct Running {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Proxy {
    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    fn is_installed(self) -> bool {
        matches!(self, Self::Gateway) || Command::new(self.name()).arg("-v").output().is_ok()
    }

    fn start(self, backends: &[Backend]) -> Running {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let directory = std::env::temp_dir().join(format!("chaos-{}-{}", self.name(), address.port()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = match self {
            Self::Gateway => {
                let mut command = Command::new(gateway());
                command.args(["--listen", &address.to_string(), "--admin", "off", "--log", "off"]);
                command.args(backends.iter().flat_map(|backend| ["--backend".to_owned(), backend.url()]));
                command
            }
            Self::Haproxy => configured("haproxy", &["-db", "-f"], &directory, &haproxy(address, backends)),
            Self::Nginx => configured("nginx", &["-c"], &directory, &nginx(address, backends, &directory)),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Running { child, address, directory }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx takes its workers with it only if it is asked to go.
        _ = Command::new("kill").arg(self.child.id().to_string()).status();
        _ = self.child.wait();
        _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The example, built beside this program.
fn gateway() -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/gateway");
    assert!(path.exists(), "build it with `cargo build --release --example gateway`");
    path
}

fn configured(program: &str, arguments: &[&str], directory: &Path, config: &str) -> Command {
    let file = directory.join("config");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg(file);
    command
}

/// What its manual recommends against failing servers: checks each second, retries elsewhere, live errors count.
fn haproxy(address: SocketAddr, backends: &[Backend]) -> String {
    let mut config = format!(
        "global\n maxconn 1000\ndefaults\n mode http\n timeout connect 1s\n timeout client 60s\n timeout server 30s\n \
         retries 3\n option redispatch 1\n retry-on all-retryable-errors\nfrontend f\n bind {address}\n \
         default_backend b\nbackend b\n balance roundrobin\n option httpchk GET /\n"
    );
    for (number, backend) in backends.iter().enumerate() {
        let server = "check inter 1s fall 1 rise 1 observe layer7 error-limit 5 on-error mark-down";
        config += &format!(" server s{number} 127.0.0.1:{} {server}\n", backend.port);
    }
    config
}

/// Its defaults, with retries on answers too, and a time-out that does not hold clients for a minute.
fn nginx(address: SocketAddr, backends: &[Backend], directory: &Path) -> String {
    let servers: String = backends
        .iter()
        .map(|backend| format!("server 127.0.0.1:{} max_fails=1 fail_timeout=5s;", backend.port))
        .collect();
    let directory = directory.display();
    format!(
        "daemon off; master_process off; pid {directory}/pid; error_log /dev/null;\nevents {{}}\nhttp {{ access_log off; \
         client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c; \
         uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e; upstream b {{ {servers} keepalive 16; }} server {{ \
         listen {address}; location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_connect_timeout 1s; proxy_read_timeout 30s; proxy_next_upstream error timeout http_502 http_503 http_504; }} \
         }} }}\n"
    )
}

async fn disturb(scenario: &str, backends: &mut [Backend], length: Duration) {
    let (one, pause) = (&mut backends[1], tokio::time::sleep(length));
    let mode = match scenario {
        "killed" => {
            one.kill();
            pause.await;
            return one.restart(&ENTRY);
        }
        "stopped" => {
            one.signal("-STOP");
            pause.await;
            return one.signal("-CONT");
        }
        "flapping" => {
            for _ in 0..length.as_secs() / 2 {
                one.kill();
                tokio::time::sleep(Duration::from_secs(1)).await;
                one.restart(&ENTRY);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            return;
        }
        "busy" => Mode::Busy,
        "broken" => Mode::Broken,
        "silent" => Mode::Silent,
        "lying" => Mode::Lying,
        _ => Mode::Slow,
    };
    one.set(mode);
    pause.await;
    // What hangs in a silent one would hang for ever.
    if mode == Mode::Silent { one.restart(&ENTRY) } else { one.set(Mode::Well) }
}

async fn run(proxy: Proxy, scenario: &str, seconds: u64) {
    let mut backends: Vec<_> = (0..3).map(|_| Backend::start(free_port(), &ENTRY)).collect();
    let running = proxy.start(&backends);
    let length = Duration::from_secs(seconds);
    let load = Load { target: running.address, method: "GET", per_second: 200, connections: 8, length };
    let load = tokio::spawn(load.run());
    let (from, half) = (Duration::from_secs(1), length / 2);
    tokio::time::sleep(from).await;
    disturb(scenario, &mut backends, half).await;
    let answers = load.await.unwrap();
    report(proxy, scenario, &answers, from, from + half);
}

fn report(proxy: Proxy, scenario: &str, answers: &[Answer], from: Duration, to: Duration) {
    let offered = answers.iter().filter(|answer| (from..to).contains(&answer.due)).count();
    let answered = answers.iter().filter(|answer| answer.well && answer.due >= from && answer.done < to).count();
    let failed = answers.iter().filter(|answer| !answer.well).count();
    let mut times: Vec<_> = answers.iter().map(|answer| (answer.done - answer.due).as_secs_f64() * 1_000.0).collect();
    times.sort_by(f64::total_cmp);
    let part = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)];
    println!(
        "{scenario:<10} {:<8} offered {:>6}  failed {failed:>5}  answered meanwhile {:5.1} %  p50 {:6.1}  p99 {:8.1}  max {:8.1} ms",
        proxy.name(),
        answers.len(),
        answered as f64 / offered.max(1) as f64 * 100.0,
        part(0.5),
        part(0.99),
        part(1.0),
    );
}

fn main() {
    be_a_backend_if_told();
    let words: Vec<_> = std::env::args().collect();
    let value = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let seconds = value("--seconds").map_or(16, |seconds| seconds.parse().expect("--seconds wants a whole number"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for scenario in SCENARIOS {
        if value("--scenario").is_some_and(|wanted| wanted != scenario) {
            continue;
        }
        for proxy in [Proxy::Gateway, Proxy::Haproxy, Proxy::Nginx] {
            if proxy.is_installed() {
                runtime.block_on(run(proxy, scenario, seconds));
            } else {
                println!("{scenario:<10} {:<8} NOT INSTALLED: skipped", proxy.name());
            }
        }
    }
}
