//! Backends that are processes of their own, to be killed, stopped and made to misbehave, and a steady load.

#![allow(dead_code, unreachable_pub, reason = "each program uses its part")]

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use tower::ServiceExt;
use tower_balancer::http::{Client, ClientConfig};

/// Tells this very program, started once more, that it is a backend, and on which port.
const PORT: &str = "CHAOS_BACKEND_PORT";

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
    /// Answers health checks, and 503 to everything else.
    Lying,
}

const MODES: [Mode; 6] = [Mode::Well, Mode::Slow, Mode::Busy, Mode::Broken, Mode::Silent, Mode::Lying];

/// Is a backend for ever, if this process was started as one. The number of a mode on the standard input sets it; each
/// POST is told, with its id, on the standard output.
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
    println!("listening");
    for stream in listener.incoming().map_while(Result::ok) {
        let mode = Arc::clone(&mode);
        thread::spawn(move || serve(stream, &mode));
    }
}

fn serve(mut stream: TcpStream, mode: &AtomicU8) -> Option<()> {
    _ = stream.set_nodelay(true);
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let mode = MODES[usize::from(mode.load(Ordering::Relaxed))];
        if mode == Mode::Broken {
            // What was not read makes of the close a reset.
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le");
            return None;
        }
        stream.read_exact(&mut byte).ok()?;
        let mut body = vec![0; field("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).ok()?;
        if let (true, Some(id)) = (head.starts_with("post "), field("x-id")) {
            println!("{id}");
        }
        match mode {
            Mode::Silent => thread::sleep(Duration::from_secs(3_600)),
            Mode::Slow => thread::sleep(Duration::from_millis(20)),
            _ => thread::sleep(Duration::from_millis(2)),
        }
        let busy = mode == Mode::Busy || (mode == Mode::Lying && !head.contains("health check"));
        let status = if busy { "503 Service Unavailable" } else { "200 OK" };
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok").as_bytes()).ok()?;
    }
}

/// A backend, which is killed when this is dropped.
pub struct Backend {
    pub port: u16,
    child: Child,
    posts: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    /// `entry` are the arguments with which this program gets to [`be_a_backend_if_told`].
    pub fn start(port: u16, entry: &[&str]) -> Self {
        Self::again(port, entry, Arc::default())
    }

    fn again(port: u16, entry: &[&str], posts: Arc<Mutex<Vec<String>>>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(entry)
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.ends_with("listening")), "the backend did not start");
        let told = Arc::clone(&posts);
        thread::spawn(move || lines.for_each(|id| told.lock().unwrap().push(id)));
        Self { port, child, posts }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&mut self, mode: Mode) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{}", mode as u8).unwrap();
    }

    /// `-STOP`, `-CONT`, `-KILL`.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Dies as by `kill -9`.
    pub fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Dies, if it has not, and is there again on the same port.
    pub fn restart(&mut self, entry: &[&str]) {
        self.kill();
        *self = Self::again(self.port, entry, Arc::clone(&self.posts));
    }

    /// The ids of the POSTs that it has seen.
    pub fn posts(&self) -> Vec<String> {
        self.posts.lock().unwrap().clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A steady load, whatever becomes of it: each request has its time.
#[derive(Clone, Copy)]
pub struct Load {
    pub target: SocketAddr,
    pub method: &'static str,
    pub per_second: u32,
    pub connections: usize,
    pub length: Duration,
}

/// One request: when it was due, when it was answered, both since the start, and whether with 200.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub due: Duration,
    pub done: Duration,
    pub well: bool,
}

impl Load {
    /// Sends it all, over so many connections, and returns what became of it. A connection takes the next request that is
    /// due as soon as it is free.
    pub async fn run(self) -> Vec<Answer> {
        let next = Arc::new(AtomicUsize::new(0));
        let requests = (self.length.as_secs_f64() * f64::from(self.per_second)) as usize;
        let start = Instant::now();
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            let next = Arc::clone(&next);
            connections.spawn(async move {
                let client: Client<Full<bytes::Bytes>> = ClientConfig::new().build();
                let mut answers = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return answers;
                    }
                    let due = Duration::from_secs(1) * number as u32 / self.per_second;
                    tokio::time::sleep_until(start + due).await;
                    let well = self.send(&client, number).await;
                    answers.push(Answer { due, done: start.elapsed(), well });
                }
            });
        }
        connections.join_all().await.into_iter().flatten().collect()
    }

    async fn send(self, client: &Client<Full<bytes::Bytes>>, number: usize) -> bool {
        let body = if self.method == "GET" { Full::default() } else { Full::from("body") };
        let request = Request::builder()
            .method(Method::from_bytes(self.method.as_bytes()).unwrap())
            .uri(format!("http://{}/some/path", self.target))
            .header("x-id", number)
            .body(body)
            .unwrap();
        // A client has more patience than a gateway should need.
        let answer = tokio::time::timeout(Duration::from_secs(60), client.clone().oneshot(request)).await;
        let Ok(Ok(response)) = answer else { return false };
        let well = response.status() == 200;
        response.into_body().collect().await.is_ok() && well
    }
}
