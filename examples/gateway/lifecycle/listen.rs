//! Listening sockets: of our own, shared with the next gateway on the same port, or inherited.

use listenfd::ListenFd;
use std::{
    io,
    net::{SocketAddr, TcpListener},
};
use tokio::net::TcpSocket;
use tracing::info;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The sockets that a service manager has passed on (`LISTEN_FDS`): they outlive this process, so nothing is lost while the
/// next one starts.
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// Takes them over. The variables that told of them are removed, so this comes before there are threads.
    ///
    /// # Errors
    ///
    /// Where one of them is no listening TCP socket.
    pub fn take() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let listeners = (0..passed.len()).filter_map(|place| passed.take_tcp_listener(place).transpose());
        Ok(Self(listeners.collect::<io::Result<_>>()?))
    }

    fn of(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|listener| listener.local_addr().is_ok_and(|own| own == address))?;
        Some(self.0.swap_remove(place))
    }

    /// All of them must have been wanted: one that nobody accepts from lets clients wait for ever.
    pub fn none_left(&self) -> io::Result<()> {
        let left: Vec<_> = self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        match left.first() {
            Some(address) => Err(io::Error::other(format!(
                "the inherited socket on {address} is not wanted: expected that address among server.listen or as server.admin"
            ))),
            None => Ok(()),
        }
    }
}

/// The inherited listener at `address`, or a new one; an error names the address.
///
/// With `reuse_port` the next gateway may listen there before this one stops. It gets all new connections then, so that
/// none is in the queue of the one that closes.
pub fn bind(address: SocketAddr, reuse_port: bool, inherited: &mut Inherited) -> io::Result<TcpListener> {
    let listener = match inherited.of(address) {
        Some(listener) => Ok(listener),
        None => bind_anew(address, reuse_port),
    };
    let named = |error: io::Error| {
        let text = error.to_string();
        let words = text.split(" (os error").next().unwrap_or(&text);
        io::Error::new(error.kind(), format!("cannot listen on {address}: {words}"))
    };
    let listener = listener.map_err(named)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn bind_anew(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        Ok::<_, io::Error>(socket)
    };
    if !reuse_port {
        let socket = socket()?;
        socket.bind(address)?;
        return socket.listen(BACKLOG)?.into_std();
    }
    let is_taken = address.port() != 0 && socket()?.bind(address).is_err();
    let socket = socket()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    take_over(&listener)?;
    if is_taken {
        info!("Another process listens on {address} as well: new connections come here from now on");
    }
    Ok(listener)
}

/// Of the sockets on one port, this one gets all new connections: the one of the gateway that came last.
///
/// The kernel asks a program for a place in the list of those sockets, at whose end this one is now. Once another has gone,
/// nobody is at that place, and the kernel chooses by hash.
#[cfg(target_os = "linux")]
fn take_over(listener: &TcpListener) -> io::Result<()> {
    use nix::{
        libc,
        sys::socket::{setsockopt, sockopt::AttachReusePortCbpf},
    };
    let others = listeners_at(listener.local_addr()?).saturating_sub(1);
    // A classic BPF program of one instruction: return the number of the others.
    let mut program = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: others }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    Ok(setsockopt(listener, AttachReusePortCbpf, &program)?)
}

/// How many sockets listen at `address`, by the kernel's list of them; where there is none to be read, this one alone.
#[cfg(target_os = "linux")]
fn listeners_at(address: SocketAddr) -> u32 {
    // As numbers of 32 bits in the order of this machine.
    let words = |octets: &[u8]| -> String {
        let word = |word: &[u8]| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        octets.chunks_exact(4).map(word).collect()
    };
    let (list, ip) = match address {
        SocketAddr::V4(address) => ("/proc/net/tcp", words(&address.ip().octets())),
        SocketAddr::V6(address) => ("/proc/net/tcp6", words(&address.ip().octets())),
    };
    let local = format!("{ip}:{:04X}", address.port());
    const LISTEN: &str = "0A";
    let is_one = |line: &&str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        columns.next() == Some(&local) && columns.nth(1) == Some(LISTEN)
    };
    std::fs::read_to_string(list).map_or(1, |list| list.lines().filter(is_one).count() as u32)
}

/// Elsewhere the kernel has its own rule.
#[cfg(not(target_os = "linux"))]
fn take_over(_: &TcpListener) -> io::Result<()> {
    Ok(())
}
