//! Who stands before the backends.

use crate::chaos::{Backend, Front, Scenario, gateway};
use clap::ValueEnum;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Proxy {
    Gateway,
    Haproxy,
    Nginx,
}

impl Proxy {
    pub(crate) const ALL: [Self; 3] = [Self::Gateway, Self::Haproxy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        let asked = || Command::new(self.name()).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        matches!(self, Self::Gateway) || asked().is_ok()
    }

    /// Each as a careful operator has it. The gateway has its defaults, but checks as often as HAProxy where a scenario is
    /// about a backend that comes back again and again.
    pub(crate) fn start(self, address: SocketAddr, backends: &[Backend], scenario: Scenario) -> Front {
        let directory = std::env::temp_dir().join(format!("chaos-{}-{}", self.name(), address.port()));
        match self {
            Self::Gateway => {
                let quick: &[&str] = if scenario.wants_quick_checks() { &["--health-interval", "1s"] } else { &[] };
                gateway(address, backends, quick)
            }
            Self::Haproxy => configured("haproxy", &["-db", "-f"], directory, address, &haproxy(address, backends)),
            Self::Nginx => {
                let config = nginx(address, backends, &directory);
                configured("nginx", &["-c"], directory, address, &config)
            }
        }
    }
}

fn configured(program: &str, arguments: &[&str], directory: PathBuf, address: SocketAddr, config: &str) -> Front {
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("config");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg(file);
    Front::start(command, address, Some(directory))
}

/// What its manual recommends against failing servers: checks each second, retries elsewhere, live errors count.
fn haproxy(address: SocketAddr, backends: &[Backend]) -> String {
    let mut config = format!(
        "\
global
  maxconn 1000
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 30s
  retries 3
  option redispatch 1
  retry-on all-retryable-errors
frontend f
  bind {address}
  default_backend b
backend b
  balance roundrobin
  option httpchk GET /
  # A POST may have been done when its answer is lost.
  http-request disable-l7-retry if METH_POST
  default-server check inter 1s fall 1 rise 1 observe layer7 error-limit 5 on-error mark-down
"
    );
    for (number, backend) in backends.iter().enumerate() {
        config += &format!("  server s{number} 127.0.0.1:{}\n", backend.port);
    }
    config
}

/// Its defaults, with retries on answers too, and a time-out that does not hold clients for a minute.
fn nginx(address: SocketAddr, backends: &[Backend], directory: &Path) -> String {
    let server = |backend: &Backend| format!("server 127.0.0.1:{} max_fails=1 fail_timeout=5s; ", backend.port);
    let servers: String = backends.iter().map(server).collect();
    let directory = directory.display();
    // One process, so that who kills it kills it all.
    format!(
        "\
daemon off;
master_process off;
pid {directory}/pid;
error_log /dev/null;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/a;
  proxy_temp_path {directory}/b;
  fastcgi_temp_path {directory}/c;
  uwsgi_temp_path {directory}/d;
  scgi_temp_path {directory}/e;
  upstream b {{ {servers}keepalive 16; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://b;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_connect_timeout 1s;
      proxy_read_timeout 30s;
      proxy_next_upstream error timeout http_502 http_503 http_504;
    }}
  }}
}}
"
    )
}
