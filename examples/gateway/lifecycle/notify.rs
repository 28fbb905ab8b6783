//! What a service manager is told: the protocol of `sd_notify`, a datagram to the socket that it names.

use std::{env, io, os::unix::net::UnixDatagram};
use tracing::warn;

/// Who started us and wants to know; nobody, mostly.
#[derive(Clone, Debug)]
pub struct Notifier {
    socket: Option<String>,
}

impl Notifier {
    /// By `NOTIFY_SOCKET`.
    pub fn from_env() -> Self {
        Self { socket: env::var("NOTIFY_SOCKET").ok().filter(|socket| !socket.is_empty()) }
    }

    pub fn ready(&self) {
        self.tell("READY=1");
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// [`ready`](Self::ready) says when it is over.
    pub fn reloading(&self) {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let micros = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, state.as_bytes()) {
            warn!("cannot tell {socket}: {error}");
        }
    }
}

fn send(socket: &str, state: &[u8]) -> io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    // Who does not read does not keep us waiting.
    datagram.set_nonblocking(true)?;
    match socket.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
            datagram.send_to_addr(state, &SocketAddr::from_abstract_name(name)?)?;
        }
        _ => _ = datagram.send_to(state, socket)?,
    }
    Ok(())
}
