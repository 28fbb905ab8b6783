//! The proxy before the backends, as a process.

use super::Backend;
use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// A proxy that is killed when this is dropped, with its directory.
#[derive(Debug)]
pub struct Front {
    pub address: SocketAddr,
    child: Child,
    directory: Option<PathBuf>,
}

impl Front {
    /// Starts `command`, and waits until it listens at `address`.
    pub fn start(mut command: Command, address: SocketAddr, directory: Option<PathBuf>) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut front = Self { address, child, directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            let ended = front.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{command:?} does not listen: {ended:?}");
            thread::sleep(Duration::from_millis(10));
        }
        front
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if let Some(directory) = &self.directory {
            _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// The gateway as a first user starts it, with `arguments` more.
pub fn gateway(address: SocketAddr, backends: &[Backend], arguments: &[&str]) -> Front {
    // The example that was built beside this program.
    let binary = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/gateway");
    assert!(binary.exists(), "{} is missing: build it with `cargo build --example gateway`", binary.display());
    let mut command = Command::new(binary);
    command.args(["--listen", &address.to_string(), "--admin", "off", "--log", "off"]).args(arguments);
    command.args(backends.iter().flat_map(|backend| ["--backend".to_owned(), backend.url()]));
    Front::start(command, address, None)
}
