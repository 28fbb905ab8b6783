//! A backend's process, from outside: to be killed, stopped and made to misbehave.

use super::server::{LISTENING, Mode, PORT, UNNOTICED};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
};

/// A process that is killed when this is dropped, stopped or not.
#[derive(Debug)]
pub struct Backend {
    pub port: u16,
    entry: &'static [&'static str],
    child: Child,
    /// What its processes have seen, the one that runs last.
    seen: Vec<JoinHandle<Vec<String>>>,
}

impl Backend {
    /// `entry` are the arguments with which this program gets to [`be_a_backend_if_told`](super::be_a_backend_if_told).
    pub fn start(port: u16, entry: &'static [&'static str]) -> Self {
        let (child, seen) = spawn(port, entry);
        Self { port, entry, child, seen: vec![seen] }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&mut self, mode: Mode) {
        self.tell(mode as u8);
    }

    /// The same for all but health checks.
    pub fn set_unnoticed(&mut self, mode: Mode) {
        self.tell(mode as u8 | UNNOTICED);
    }

    fn tell(&mut self, mode: u8) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{mode}").unwrap();
    }

    /// `-STOP`, `-CONT`.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Dies as by `kill -9`.
    pub fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Dies, if it has not, and is there again on the same port.
    pub fn restart(&mut self) {
        self.kill();
        let (child, seen) = spawn(self.port, self.entry);
        self.child = child;
        self.seen.push(seen);
    }

    /// Ends it, and returns the numbers of the requests that it has seen.
    pub fn end(mut self) -> Vec<String> {
        self.kill();
        self.seen.drain(..).flat_map(|seen| seen.join().unwrap()).collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, entry: &[&str]) -> (Child, JoinHandle<Vec<String>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(entry)
        .env(PORT, port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    if !lines.any(|line| line.ends_with(LISTENING)) {
        _ = child.kill();
        _ = child.wait();
        panic!("the backend did not start on port {port}");
    }
    // Read all the time: a full pipe would make it wait.
    (child, thread::spawn(move || lines.collect()))
}
