//! A browser without a window: Chromium, driven by the WebDriver protocol (W3C) through `chromedriver`.

use super::send;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// A session of its own, with nothing in it from others; ended when dropped.
pub struct Browser {
    driver: Child,
    session: String,
    profile: PathBuf,
    process: Option<u64>,
}

/// The keys, by the protocol.
pub const TAB: char = '\u{E004}';
pub const ENTER: char = '\u{E007}';
pub const SPACE: char = ' ';
pub const ESCAPE: char = '\u{E00C}';

impl Browser {
    /// `None`, and loudly so, where it is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// With more arguments.
    pub async fn start_with(more: &[&str]) -> Option<Self> {
        static PROFILES: AtomicUsize = AtomicUsize::new(0);
        let driver =
            Command::new("chromedriver").args(["--port=0"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut driver) = driver else {
            eprintln!("SKIPPED: there is no chromedriver: apt-get install chromium chromium-driver");
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let started = "ChromeDriver was started successfully on port ";
        let port = lines.find_map(|line| line.strip_prefix(started).map(|port| port.trim_end_matches('.').to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        let number = PROFILES.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("gateway-browser-{}-{number}", std::process::id()));
        let url = format!("http://127.0.0.1:{}/session", port.expect("chromedriver did not start"));
        let mut browser = Self { driver, session: url, profile, process: None };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,960",
            "--hide-scrollbars",
            "--lang=en-GB",
            &format!("--user-data-dir={}", browser.profile.display()),
        ];
        let arguments = [&arguments[..], more].concat();
        let options = json!({ "args": arguments });
        let wanted =
            json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let session = browser.ask("POST", "", json!({"capabilities": {"alwaysMatch": wanted}})).await;
        browser.process = session["capabilities"]["goog:processID"].as_u64();
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn ask(&self, method: &str, what: &str, body: Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(format!("{}{what}", self.session));
        let request = request.header("content-type", "application/json").body(Full::<Bytes>::from(body)).unwrap();
        let (status, answer) = send(request).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 200, "{method} {what}: {answer}");
        answer["value"].clone()
    }

    pub async fn open(&self, url: &str) {
        self.ask("POST", "/url", json!({ "url": url })).await;
    }

    /// What `script` returns, or what its promise resolves to.
    pub async fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Looks until `condition` holds in the page.
    pub async fn until(&self, condition: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.run(&format!("return Boolean({condition})")).await != true {
            let page = async { self.run("return document.body.innerText").await };
            assert!(Instant::now() < deadline, "{condition} does not come to pass:\n{}", page.await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Clicks on the element that the selector finds, as a mouse does: it has to be in sight.
    pub async fn click(&self, selector: &str) {
        let element = self.ask("POST", "/element", json!({"using": "css selector", "value": selector})).await;
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.ask("POST", &format!("/element/{id}/click"), json!({})).await;
    }

    /// Types these keys, wherever the focus is.
    pub async fn keys(&self, keys: &str) {
        let press = |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<_> = keys.chars().flat_map(press).collect();
        self.ask("POST", "/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})).await;
    }

    /// Presses Tab until the focus is on the element that the selector finds.
    pub async fn tab_to(&self, selector: &str) {
        for _ in 0..100 {
            if self.run(&format!("return document.activeElement?.matches({selector:?}) ?? false")).await == true {
                return;
            }
            self.keys(&TAB.to_string()).await;
        }
        panic!("the keyboard does not lead to {selector}");
    }

    /// What the console has been told since this was asked last.
    pub async fn console(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", json!({"type": "browser"})).await;
        log.as_array().unwrap().iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// A command of Chromium's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// As it looks on a screen of this size.
    pub async fn screen(&self, width: u32, height: u32, is_phone: bool) {
        let scale = if is_phone { 2 } else { 1 };
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// What is seen, as PNG.
    pub async fn screenshot(&self) -> Vec<u8> {
        let image = self.ask("GET", "/screenshot", Value::Null).await;
        decoded(image.as_str().unwrap())
    }
}

impl Drop for Browser {
    /// Ends the session, by which the driver ends its browser; one that lost its driver would stay for ever.
    fn drop(&mut self) {
        let (address, path) = self.session.trim_start_matches("http://").split_once('/').unwrap();
        if let Ok(mut stream) = TcpStream::connect(address) {
            let head = format!("DELETE /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            _ = stream.write_all(head.as_bytes()).and_then(|()| stream.read(&mut [0; 1024]));
        }
        _ = self.driver.kill();
        _ = self.driver.wait();
        if let Some(process) = self.process {
            // Nothing is left of it by now, unless the driver failed.
            let status = Command::new("kill").args(["-KILL", &process.to_string()]).stderr(Stdio::null()).status();
            if status.is_ok_and(|status| status.success()) {
                eprintln!("the browser {process} had not ended by itself");
            }
        }
        _ = fs::remove_dir_all(&self.profile);
    }
}

/// From base64.
fn decoded(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        letter => panic!("{letter} in base64"),
    };
    let letters: Vec<_> = text.bytes().filter(|letter| *letter != b'=').map(value).collect();
    let bytes = letters.chunks(4).flat_map(|chunk| {
        let word = chunk.iter().enumerate().fold(0, |word, (place, six)| word | u32::from(*six) << (18 - 6 * place));
        word.to_be_bytes().into_iter().skip(1).take(chunk.len() - 1)
    });
    bytes.collect()
}
