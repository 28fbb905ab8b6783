//! W3C Trace Context by the bytes that backends get, and the spans that are made beside them.

mod common;

#[path = "common/wire.rs"]
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tower::{Service, ServiceExt};
use tower_balancer::{
    BackendPool, ReverseProxy,
    http::{RetryLayer, TraceContext, TraceLayer, trace_context::TRACE_TARGET},
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};
use wire::{OK, Wire, header, limits::Limits};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn traced(trace: TraceLayer) -> Wire {
    Wire::with(OK, Limits::default(), |proxy| proxy.trace(trace)).await
}

/// What the backend gets of a request with these lines: its `traceparent`, and all lines of `tracestate`.
async fn told(wire: &Wire, lines: &str) -> (TraceContext, Vec<String>) {
    let seen = wire.passes(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n")).await;
    let [parent] = header(&seen, "traceparent")[..] else { panic!("{seen}") };
    let context = TraceContext::parse(parent.as_bytes()).unwrap_or_else(|| panic!("{seen}"));
    (context, header(&seen, "tracestate").into_iter().map(str::to_owned).collect())
}

#[tokio::test]
async fn what_a_client_says_is_continued() {
    let wire = traced(TraceLayer::new()).await;
    let parent = TraceContext::parse(PARENT.as_bytes()).unwrap();
    let (child, state) = told(&wire, &format!("traceparent: {PARENT}\r\ntracestate: a=1\r\ntracestate: b=2\r\n")).await;
    assert_eq!((child.trace_id(), child.is_sampled()), (parent.trace_id(), true));
    assert_ne!(child.span_id(), parent.span_id());
    assert_eq!(state, ["a=1,b=2"]);
    // Whoever wants it not recorded is listened to, and the trace goes on.
    let (child, _) = told(&wire, &format!("traceparent: {}0\r\n", &PARENT[..54])).await;
    assert_eq!((child.trace_id(), child.is_sampled()), (parent.trace_id(), false));
}

#[tokio::test]
async fn where_nothing_or_nonsense_is_said_a_trace_begins() {
    let wire = traced(TraceLayer::new()).await;
    let known = TraceContext::parse(PARENT.as_bytes()).unwrap().trace_id();
    let mut seen = vec![known];
    for parent in [
        String::new(),
        format!("traceparent: {}\r\n", PARENT.to_uppercase()),
        format!("traceparent: {PARENT}-more\r\n"),
        format!("traceparent: ff{}\r\n", &PARENT[2..]),
        format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\n"),
        "traceparent: \r\n".to_owned(),
    ] {
        let (root, state) = told(&wire, &format!("{parent}tracestate: a=1\r\n")).await;
        assert!(!seen.contains(&root.trace_id()) && root.is_sampled(), "{parent:?}");
        assert_eq!(state, [""; 0], "{parent:?}");
        seen.push(root.trace_id());
    }
    // And a state that is none is dropped, and nothing else.
    let (child, state) = told(&wire, &format!("traceparent: {PARENT}\r\ntracestate: a=1,a=2\r\n")).await;
    assert_eq!((child.trace_id(), state), (known, vec![]));
}

#[tokio::test]
async fn who_takes_no_part_touches_nothing() {
    let wire = traced(TraceLayer::none()).await;
    let lines = "traceparent: nonsense\r\ntracestate: a=1,a=1\r\n";
    let seen = wire.passes(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n")).await;
    assert_eq!([header(&seen, "traceparent"), header(&seen, "tracestate")], [["nonsense"], ["a=1,a=1"]]);
    let seen = wire.passes("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(header(&seen, "traceparent"), [""; 0]);
}

/// The fields of the spans that were made, in the order of their beginnings.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(span::Id, Values)>>>);

type Values = BTreeMap<String, String>;

struct Fields<'a>(&'a mut Values);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        if attributes.metadata().target() == TRACE_TARGET {
            let mut fields = BTreeMap::from([("name".to_owned(), attributes.metadata().name().to_owned())]);
            attributes.record(&mut Fields(&mut fields));
            self.0.lock().unwrap().push((id.clone(), fields));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        if let Some((_, fields)) = self.0.lock().unwrap().iter_mut().rev().find(|(of, _)| of == id) {
            values.record(&mut Fields(fields));
        }
    }
}

impl Spans {
    fn take(&self) -> Vec<Values> {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().map(|(_, fields)| fields).collect()
    }
}

#[tokio::test]
async fn a_span_for_the_request_and_one_below_it_for_each_attempt() {
    let spans = Spans::default();
    let _listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    // While there is only one subscriber in the process, whoever comes first to a place in the code settles for all threads that
    // nobody listens there, where nobody does on its own. With a second one all are asked.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    // The first cannot be reached.
    let dead = format!("http://127.0.0.1:{}", common::gateway::free_port());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::clone(&seen);
    let well = common::Server::http(common::answers_with(move |request| {
        writes.lock().unwrap().push(request.headers()["traceparent"].to_str().unwrap().to_owned());
        async { http::Response::new(http_body_util::Full::<bytes::Bytes>::from("well")) }
    }))
    .await;
    let pool = BackendPool::new([&dead, &well.url()]).unwrap();
    let build = |retry, trace| ReverseProxy::builder(&pool).retry(retry).trace(trace).build();
    let request = |parent: &str| {
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        http::Request::get("http://a/path?secret").header("traceparent", parent).body(body).unwrap()
    };
    let mut proxy = build(RetryLayer::default(), TraceLayer::new().pool("web"));
    assert_eq!(proxy.ready().await.unwrap().call(request(PARENT)).await.unwrap().status(), 200);

    let made = spans.take();
    let [root, first, second] = &made[..] else { panic!("{made:#?}") };
    let has = |span: &Values, expected: &[(&str, &str)]| {
        for (name, value) in expected {
            assert_eq!(span.get(*name).map(String::as_str), Some(*value), "{name} of {span:#?}");
        }
    };
    let trace = ("trace_id", "0af7651916cd43dd8448eb211c80319c");
    has(root, &[trace, ("name", "request"), ("parent_span_id", "b7ad6b7169203331"), ("otel.kind", "server")]);
    has(
        root,
        &[("http.request.method", "GET"), ("url.path", "/path"), ("http.response.status_code", "200"), ("pool", "web")],
    );
    let below = ("parent_span_id", &*root["span_id"]);
    has(first, &[trace, below, ("name", "attempt"), ("backend", &dead), ("outcome", "connect_fault")]);
    has(first, &[("error.type", "connect_fault"), ("otel.kind", "client"), ("server.address", "127.0.0.1")]);
    has(second, &[trace, below, ("backend", &well.url()), ("outcome", "success"), ("http.request.resend_count", "1")]);
    assert!(!root.contains_key("error.type") && !second.contains_key("error.type"));
    assert_ne!(first["span_id"], second["span_id"]);
    // That is the one that its backend was told.
    let told = seen.lock().unwrap().pop().unwrap();
    assert_eq!(told, format!("00-{}-{}-01", trace.1, second["span_id"]));

    // There is nobody any more: no attempt, and an answer of our own.
    pool.mark_unhealthy(&well.url());
    assert_eq!(proxy.ready().await.unwrap().call(request(PARENT)).await.unwrap().status(), 503);
    let made = spans.take();
    assert_eq!(made.len(), 1);
    has(&made[0], &[("error.type", "unavailable"), ("http.response.status_code", "503")]);

    // Nobody wants these recorded: whoever began it, or we.
    pool.mark_healthy(&well.url());
    assert_eq!(proxy.ready().await.unwrap().call(request(&format!("{}0", &PARENT[..54]))).await.unwrap().status(), 200);
    let mut proxy = build(RetryLayer::default(), TraceLayer::new().sample(0.0));
    assert_eq!(proxy.ready().await.unwrap().call(request("")).await.unwrap().status(), 200);
    assert!(seen.lock().unwrap().pop().unwrap().ends_with("-00"));
    assert_eq!(spans.take().len(), 0);
}
