//! A real browser through the gateway, over TLS and HTTP/2: a page with all that belongs to it, a POST, events and a WebSocket.
//!
//! Needs Chromium (`apt-get install chromium chromium-driver`); without it the test says that it was skipped.

mod common;

use axum::body::{Body, Bytes};
use common::{
    Server, answers_with,
    browser::Browser,
    gateway::{ConfigFile, Gateway},
};
use futures_util::{SinkExt, StreamExt, stream};
use http::{Request, Response, header};
use std::{convert::Infallible, fs, time::Duration};

/// With more scripts than a browser opens connections.
fn page() -> String {
    let scripts: String = (0..30).map(|number| format!("<script src=/script/{number}.js></script>")).collect();
    format!(
        "<!doctype html><html><head><meta charset=utf-8><link rel=icon href=data:,><link rel=stylesheet href=/style.css>
         <script>var ran = [], found = {{events: []}}</script></head>
         <body><p id=styled>styled</p><img id=image src=/image.svg>{scripts}<script src=/talk.js></script></body></html>"
    )
}

const TALK: &str = "
addEventListener('load', async () => {
  const events = new EventSource('/events');
  events.onmessage = event => found.events.push(event.data);
  const socket = new WebSocket(`wss://${location.host}/socket`);
  socket.onopen = () => socket.send('said');
  socket.onmessage = event => { found.socket = event.data; socket.close(1000); };
  socket.onclose = event => { found.closed = [event.code, event.wasClean]; };
  const answer = await fetch('/post', {method: 'POST', body: 'x'.repeat(1_000_000)});
  found.post = await answer.json();
});
";

async fn site(request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (kind, body) = match &*path {
        "/" => ("text/html", page().into()),
        "/style.css" => ("text/css", "#styled { color: rgb(1, 2, 3) }".into()),
        "/image.svg" => ("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg' width='7' height='7'/>".into()),
        "/talk.js" => ("text/javascript", TALK.into()),
        "/post" => {
            let cookie = request.headers().get(header::COOKIE).map_or("", |cookie| cookie.to_str().unwrap()).to_owned();
            let length = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap().len();
            ("application/json", serde_json::json!([length, cookie]).to_string().into())
        }
        // They come one by one, and there is no end of them.
        "/events" => {
            let events = stream::unfold(0, |number| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let event = Bytes::from(format!("data: event {number}\n\n"));
                Some((Ok::<_, Infallible>(event), number + 1))
            });
            ("text/event-stream", Body::from_stream(events))
        }
        script => ("text/javascript", format!("ran.push({script:?})").into()),
    };
    let response = Response::builder().header(header::CONTENT_TYPE, kind);
    let response = response.header(header::SET_COOKIE, "a=1; Secure").header(header::SET_COOKIE, "b=2; Secure");
    response.body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_all_that_belongs_to_it_arrives() {
    let Some(browser) = Browser::start_with(&["--ignore-certificate-errors"]).await else { return };
    let web = Server::http(answers_with(site)).await;
    let socket = Server::raw(|stream| async move {
        let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
        let (mut out, mut back) = socket.split();
        while let Some(Ok(message)) = back.next().await {
            if message.is_text() {
                _ = out.send(message).await;
            }
        }
    })
    .await;
    let directory = std::env::temp_dir().join(format!("gateway-browsing-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| directory.join(name));
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&chain, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let file = ConfigFile::new(&format!(
        "[server]\ntls = {{ cert = {chain:?}, key = {key:?} }}\n\
         [pools.web]\nbackends = [{:?}]\n[pools.socket]\nbackends = [{:?}]\nhealth = \"tcp\"\n\
         [[routes]]\npath_prefix = \"/socket\"\npool = \"socket\"\n[[routes]]\npool = \"web\"",
        web.url(),
        socket.url()
    ));
    let gateway = Gateway::by(&file);
    let port = gateway.url.rsplit(':').next().unwrap();
    browser.open(&format!("https://localhost:{port}/")).await;
    browser.until("found.post && found.closed && found.events.length >= 3").await;

    let found = browser.run("return found").await;
    assert_eq!(found["post"], serde_json::json!([1_000_000, "a=1; b=2"]));
    assert_eq!((&found["socket"], &found["closed"]), (&"said".into(), &serde_json::json!([1000, true])));
    let events: Vec<_> = (0..3).map(|number| format!("event {number}")).collect();
    assert_eq!(found["events"].as_array().unwrap()[..3], events[..]);
    assert_eq!(browser.run("return getComputedStyle(styled).color").await, "rgb(1, 2, 3)");
    assert_eq!(browser.run("return image.naturalWidth").await, 7);
    let scripts: Vec<_> = (0..30).map(|number| format!("/script/{number}.js")).collect();
    assert_eq!(browser.run("return ran").await, serde_json::json!(scripts));
    // The page and what belongs to it: each over HTTP/2.
    let protocols =
        "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
                     .filter(entry => entry.name.startsWith('https:')).map(entry => entry.nextHopProtocol)";
    let protocols = browser.run(protocols).await;
    let protocols = protocols.as_array().unwrap();
    // The events have not ended.
    assert!(protocols.len() >= 35 && protocols.iter().all(|protocol| protocol == "h2"), "{protocols:?}");
    let console = browser.console().await;
    assert!(console.is_empty(), "{console:#?}");
    fs::remove_dir_all(directory).unwrap();
}
