//! The gateway example as a process: the real binary, and the lines it prints.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};
use tokio::time::Instant;

#[path = "port.rs"]
mod port;

pub use port::free_port;

/// `cargo test` builds the examples before it runs any test; `cargo test --test gateway` does not.
pub fn binary() -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/gateway");
    assert!(path.exists(), "{} is missing: build it with `cargo build --example gateway`", path.display());
    path
}

/// A gateway that is killed when dropped, and the lines it printed.
pub struct Gateway {
    pub child: Child,
    lines: Receiver<String>,
    pub url: String,
}

impl Gateway {
    /// On a free port, by these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_at(free_port(), arguments)
    }

    pub fn start_at(port: u16, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(arguments);
        let gateway = Self::spawn(command, port);
        gateway.line(&format!("INFO: Load balancer running on port {port}"));
        gateway
    }

    /// On a free port, without an admin server, by this file.
    pub fn by(config: &ConfigFile) -> Self {
        Self::start(&["--admin", "off", "--config", config.path()])
    }

    pub fn spawn(mut command: Command, port: u16) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| _ = send.send(line)));
        Self { child, lines, url: format!("http://127.0.0.1:{port}") }
    }

    /// Waits for a line that begins so, and returns it; all lines before it are skipped.
    pub fn line(&self, begins: &str) -> String {
        let mut skipped = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.starts_with(begins) {
                return line;
            }
            skipped.push(line);
        }
        panic!("no line {begins:?}, only {skipped:#?}");
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(self) -> Option<i32> {
        self.signal("-TERM");
        self.code()
    }

    /// Waits for its end.
    pub fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A configuration file that is removed when dropped.
pub struct ConfigFile(PathBuf);

impl ConfigFile {
    pub fn new(text: &str) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let name = format!("gateway-test-{}-{number}.toml", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// In place, so that a reader may see a part of it.
    pub fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    /// In one step.
    pub fn replace(&self, text: &str) {
        let next = self.0.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(&next, &self.0).unwrap();
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

pub fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}
