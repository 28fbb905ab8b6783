//! An operator of the gateway: asks its admin server, and reads what it tells.

use super::{client, gateway::free_port};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_balancer::http::ClientBody;

/// Where the admin server is, and what its operator shows.
#[derive(Clone)]
pub struct Operator {
    pub address: String,
    pub headers: Vec<(String, String)>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// What went wrong, in words.
    pub fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["error"].as_str().unwrap().to_owned()
    }
}

/// That `value` has the fields that the description gives to `schema`, and no others.
pub fn is_described(schema: &str, value: &Value) {
    let description: Value = serde_json::from_str(include_str!("../../examples/gateway/admin/openapi.json")).unwrap();
    let described = description["components"]["schemas"][schema]["properties"].as_object().unwrap();
    assert!(value.as_object().unwrap().keys().eq(described.keys()), "{schema}: {value}");
}

impl Operator {
    /// Of an admin server that will be on a free port.
    pub fn new() -> Self {
        Self { address: format!("127.0.0.1:{}", free_port()), headers: Vec::new() }
    }

    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.push((name.to_owned(), value.to_owned()));
        Self { address: self.address.clone(), headers }
    }

    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let response = self.begin(method, path, body).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn begin(&self, method: &str, path: &str, body: &str) -> http::Response<ClientBody> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !body.is_empty() && !self.headers.iter().any(|(name, _)| name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
        client().oneshot(request).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub async fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, "").await
    }

    pub async fn pools(&self) -> Value {
        self.get("/pools").await.json()
    }

    /// A backend of a pool, or null.
    pub async fn backend(&self, pool: &str, id: &str) -> Value {
        let pools = self.pools().await;
        let pool = pools["pools"].as_array().unwrap().iter().find(|it| it["name"] == pool).unwrap_or(&Value::Null);
        let found = pool["backends"].as_array().and_then(|all| all.iter().find(|it| it["id"] == id));
        found.cloned().unwrap_or_default()
    }

    pub async fn events(&self) -> Events {
        let response = self.begin("GET", "/events", "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), read: String::new() }
    }
}

/// The path of a backend.
pub fn at(pool: &str, id: &str, what: &str) -> String {
    let id = id.replace(':', "%3A").replace('/', "%2F");
    format!("/pools/{pool}/backends/{id}{what}")
}

/// Server-sent events, as they come.
pub struct Events {
    body: ClientBody,
    read: String,
}

impl Events {
    /// The next block: an event, or a comment.
    pub async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                return Some(block);
            }
            let frame = timeout(Duration::from_secs(120), self.body.frame()).await.expect("no event in time")?.ok()?;
            self.read += std::str::from_utf8(frame.data_ref()?).unwrap();
        }
    }

    /// The next event; its fields have to agree.
    pub async fn next(&mut self) -> Value {
        loop {
            let block = self.block().await.expect("the stream has ended");
            let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
            if let Some(data) = field("data: ") {
                let event: Value = serde_json::from_str(data).unwrap();
                assert_eq!(field("id: "), event["id"].as_str());
                assert_eq!(field("event: "), event["kind"].as_str());
                return event;
            }
        }
    }

    /// The next event for which `is` says yes.
    pub async fn find(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await;
            if is(&event) {
                return event;
            }
        }
    }
}
