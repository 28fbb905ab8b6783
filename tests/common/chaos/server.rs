//! What a backend does, in its own process.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

/// Tells this very program, started once more, that it is a backend, and on which port.
pub(super) const PORT: &str = "CHAOS_BACKEND_PORT";

/// What a backend says when it can be reached.
pub(super) const LISTENING: &str = "listening";

/// The header that numbers the requests of a load. Health checks have none.
pub(super) const NUMBER: &str = "x-request-number";

/// How a backend behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Answers after two milliseconds.
    Well,
    /// Answers after twenty.
    Slow,
    /// Answers 503.
    Busy,
    /// Breaks the connection in the middle of the head.
    Broken,
    /// Accepts, and never answers.
    Silent,
}

const MODES: [Mode; 5] = [Mode::Well, Mode::Slow, Mode::Busy, Mode::Broken, Mode::Silent];

/// Added to a mode: health checks do not notice it.
pub(super) const UNNOTICED: u8 = 0x80;

/// Is a backend for ever, if this process was started as one. The number of a mode on the standard input sets it; each
/// request that has a number is told on the standard output, also when it is not answered.
pub fn be_a_backend_if_told() {
    let Some(port) = std::env::var(PORT).ok().and_then(|port| port.parse::<u16>().ok()) else { return };
    let mode = Arc::new(AtomicU8::new(0));
    let told = Arc::clone(&mode);
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            told.store(line.parse().unwrap(), Ordering::Relaxed);
        }
        // Who started it is gone.
        std::process::exit(0);
    });
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    println!("{LISTENING}");
    for stream in listener.incoming().map_while(Result::ok) {
        let mode = Arc::clone(&mode);
        thread::spawn(move || serve(stream, &mode));
    }
}

/// One connection, until it ends.
fn serve(mut stream: TcpStream, mode: &AtomicU8) -> Option<()> {
    _ = stream.set_nodelay(true);
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        // All but the last byte, which a broken one leaves unread.
        while !head.ends_with(b"\r\n\r") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        // Before anything can go wrong: what was seen was seen, whatever comes of it.
        if let Some(number) = field(NUMBER) {
            println!("{number}");
        }
        let mode = mode.load(Ordering::Relaxed);
        // The load asks for another path than health checks do, whoever makes them.
        let unnoticed = mode & UNNOTICED != 0 && head.lines().next()?.split(' ').nth(1) == Some("/");
        let mode = if unnoticed { Mode::Well } else { MODES[usize::from(mode & !UNNOTICED)] };
        if mode == Mode::Broken {
            // What was not read makes of the close a reset.
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le");
            return None;
        }
        stream.read_exact(&mut byte).ok()?;
        let mut body = vec![0; field("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).ok()?;
        match mode {
            Mode::Silent => thread::sleep(Duration::from_secs(3_600)),
            Mode::Slow => thread::sleep(Duration::from_millis(20)),
            _ => thread::sleep(Duration::from_millis(2)),
        }
        let status = if mode == Mode::Busy { "503 Service Unavailable" } else { "200 OK" };
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok").as_bytes()).ok()?;
    }
}
