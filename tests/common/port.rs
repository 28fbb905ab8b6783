use std::{
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

/// Below those that connections are given, of which there are many meanwhile.
const FIRST: u16 = 10_000;
const PORTS: u16 = 20_000;

/// A port of the loopback address that nobody has, and that this process is told once.
pub fn free_port() -> u16 {
    // Programs that run beside each other begin in different places.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..PORTS)));
    let mut some = std::iter::repeat_with(|| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS);
    some.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
