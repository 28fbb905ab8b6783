//! The operator's API: what he sees, what he changes, and what a reload does to it. The real binary.

mod common;

use common::{
    Server,
    admin::{Operator, at},
    answers,
    gateway::{ConfigFile, Gateway, free_port},
    get, says, until,
};
use http::StatusCode;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    task::JoinHandle,
};

/// Nobody is checked again for an hour: what happens is what the test does.
const QUIET: &str = "health = { interval = \"1h\", fast_interval = \"1h\" }\n";

fn start(operator: &Operator, file: &ConfigFile) -> Gateway {
    Gateway::start(&["--admin", &operator.address, "--config", file.path()])
}

/// Answers checks at once, and every other request only when it may.
async fn holds(may: Arc<Semaphore>) -> Server {
    Server::raw(move |mut stream| {
        let may = Arc::clone(&may);
        async move {
            let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                    _ => return,
                }
            }
            if !request.starts_with(b"GET /check") {
                may.acquire().await.unwrap().forget();
            }
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone").await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_say_what_is_and_why() {
    let (well, failing) = (Server::http(says("one")).await, Server::http(answers(StatusCode::BAD_GATEWAY)).await);
    let dead = format!("http://127.0.0.1:{}", free_port());
    let file = ConfigFile::new(&format!(
        "[server]\nzone = \"a\"\n[pools.web]\nretry = {{ attempts = 1 }}\n{QUIET}backends = [{{ url = {:?}, zone = \"a\" }}, {{ url = {:?}, priority = 1 }}, \
         {{ url = {dead:?}, weight = 2.5 }}]\nlimits = {{ max_in_flight_per_backend = 7 }}\nfail_open = \"least_bad\"",
        well.url(),
        failing.url()
    ));
    let operator = Operator::new();
    let gateway = start(&operator, &file);
    (0..3).for_each(|_| _ = gateway.line("HEALTH: "));
    for _ in 0..3 {
        get(&gateway.url).await;
    }

    let told = operator.pools().await;
    assert_eq!(told["ready"], true);
    let pool = &told["pools"][0];
    assert_eq!(
        (&pool["name"], &pool["strategy"], &pool["available"]),
        (&"web".into(), &"round_robin".into(), &1.into())
    );
    assert_eq!(pool["fail_open"]["policy"], "least_bad");
    // Two of three are out: what is left is too few.
    assert_eq!(pool["fail_open"]["active"], true);
    assert_eq!(
        pool["ejection"][0],
        json!({"priority": 0, "zone": null, "backends": 1, "ejected": 0, "at_most": 0}),
        "{pool}"
    );
    let backend = operator.backend("web", &well.url()).await;
    assert_eq!((&backend["state"], &backend["reason"]), (&"healthy".into(), &"status: 200".into()));
    assert_eq!(
        (&backend["url"], &backend["zone"], &backend["priority"]),
        (&(&*well.url()).into(), &"a".into(), &0.into())
    );
    assert_eq!((&backend["completed"], &backend["failed"], &backend["in_flight"]), (&3.into(), &0.into(), &0.into()));
    assert_eq!(backend["recent"], json!({"requests": 3, "failed": 0}));
    assert_eq!((&backend["max_in_flight"], &backend["last_error"]), (&7.into(), &json!(null)));
    assert!(backend["latency_ms"].as_f64().unwrap() > 0.0);
    assert!(backend["since"].as_str().unwrap().ends_with('Z') && backend["since_seconds"].as_f64().unwrap() < 60.0);

    let backend = operator.backend("web", &dead).await;
    assert_eq!((&backend["state"], &backend["reason"]), (&"unhealthy".into(), &"Connection refused".into()));
    assert_eq!((&backend["last_error"], &backend["weight"]), (&"Connection refused".into(), &2.5.into()));
    assert!(backend["last_error_at"].as_str().unwrap() >= told["started"].as_str().unwrap());
    let backend = operator.backend("web", &failing.url()).await;
    assert_eq!(backend["reason"], "status: 502");
    assert_eq!(backend["priority"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ejection_shows_its_reason_its_end_and_how_many_more_may_go() {
    let (well, dies) = (Server::http(says("one")).await, Server::http(says("two")).await);
    let file = ConfigFile::new(&format!(
        "[pools.web]\nhealth = \"off\"\noutlier = {{ base_ejection = \"100s\" }}\nbackends = [{:?}, {:?}]",
        well.url(),
        dies.url()
    ));
    let operator = Operator::new();
    let gateway = start(&operator, &file);
    let url = dies.url();
    dies.kill().await;
    for _ in 0..2 {
        assert_eq!(get(&gateway.url).await, (200, "one".into()));
    }
    let backend = operator.backend("web", &url).await;
    assert_eq!((&backend["state"], &backend["reason"]), (&"ejected".into(), &"Connection refused".into()));
    let again = backend["tried_again_in_seconds"].as_f64().unwrap();
    assert!((60.0..=120.0).contains(&again), "{again}");
    assert_eq!((&backend["failed"], &backend["last_error"]), (&1.into(), &"Connection refused".into()));
    let pools = operator.pools().await;
    assert_eq!(
        pools["pools"][0]["ejection"],
        json!([{"priority": 0, "zone": null, "backends": 2, "ejected": 1, "at_most": 1}])
    );
    // The operator knows better.
    let enabled = operator.post(&at("web", &url, "/enable")).await;
    assert_eq!((enabled.status, &enabled.json()["state"]), (200, &"healthy".into()));
}

/// A gateway before a backend that [holds] its requests and one that does not, both checked.
struct Held {
    gateway: Gateway,
    operator: Operator,
    slow: Server,
    /// How many requests the slow one may answer.
    may: Arc<Semaphore>,
    other: Server,
    file: ConfigFile,
}

impl Held {
    async fn begin() -> Self {
        let may = Arc::new(Semaphore::new(0));
        let (slow, other) = (holds(Arc::clone(&may)).await, Server::http(says("other")).await);
        let file = ConfigFile::new(&Self::listing(&format!("{:?}, {:?}", slow.url(), other.url())));
        let operator = Operator::new();
        let gateway = start(&operator, &file);
        (0..2).for_each(|_| _ = gateway.line("HEALTH: "));
        Self { gateway, operator, slow, may, other, file }
    }

    fn listing(backends: &str) -> String {
        let health = "health = { path = \"/check\", interval = \"1h\", fast_interval = \"1h\" }";
        format!("[pools.web]\nstrategy = \"weighted_round_robin\"\nhedge = \"off\"\n{health}\nbackends = [{backends}]")
    }

    /// One that the slow one has now.
    async fn request(&self) -> JoinHandle<(u16, String)> {
        let url = self.gateway.url.clone();
        let request = tokio::spawn(async move { get(url).await });
        until(|| async { self.operator.backend("web", &self.slow.url()).await["in_flight"] == 1 }).await;
        request
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_requests_end_shows_how_far_it_is_and_is_told() {
    let held = Held::begin().await;
    let Held { gateway, operator, slow, other, .. } = &held;
    let mut events = operator.events().await;
    let request = held.request().await;

    let draining = operator.post(&at("web", &slow.url(), "/drain?deadline=1h")).await;
    let told = draining.json();
    assert_eq!((draining.status, &told["state"], &told["in_flight"]), (200, &"draining".into(), &1.into()));
    assert_eq!((&told["drain"]["done"], &told["drain"]["removes"]), (&false.into(), &false.into()));
    assert!((3500.0..=3600.0).contains(&told["drain"]["deadline_in_seconds"].as_f64().unwrap()), "{told}");
    // Nobody new comes to it.
    for _ in 0..4 {
        assert_eq!(get(&gateway.url).await, (200, "other".into()));
    }
    let change = events.find(|event| event["kind"] == "change").await;
    assert_eq!((&change["reason"], &change["pool"]), (&"drain".into(), &"web".into()));
    assert_eq!(change["backend"], slow.url());
    assert_eq!((&change["before"], &change["after"]), (&"healthy, weight 1".into(), &"draining, weight 1".into()));
    assert!(change["who"].as_str().unwrap().starts_with("127.0.0.1:"));
    held.may.add_permits(1);
    let drained = events.find(|event| event["kind"] == "drained").await;
    assert_eq!((&drained["backend"], &drained["reason"]), (&slow.url().into(), &"no request left".into()));
    // What it had came to its end.
    assert_eq!(request.await.unwrap(), (200, "done".into()));
    let told = operator.backend("web", &slow.url()).await;
    assert_eq!((&told["state"], &told["drain"]["done"]), (&"draining".into(), &true.into()));

    // The other one is the last.
    let refused = operator.post(&at("web", &other.url(), "/drain")).await;
    assert_eq!(refused.status, 409);
    assert!(refused.error().contains("is the last one of web that is available: expected force=true"));
    assert_eq!(operator.post(&at("web", &other.url(), "/disable")).await.status, 409);
    assert_eq!(get(&gateway.url).await, (200, "other".into()));
    let forced = operator.post(&at("web", &other.url(), "/disable?force=true")).await;
    assert_eq!((forced.status, &forced.json()["state"]), (200, &"disabled".into()));
    assert_eq!(get(&gateway.url).await.0, 503);
    let enabled = operator.post(&at("web", &other.url(), "/enable")).await;
    assert_eq!(
        (enabled.status, &enabled.json()["state"], &enabled.json()["drain"]),
        (200, &"healthy".into(), &json!(null))
    );
    assert_eq!(get(&gateway.url).await, (200, "other".into()));
    assert_eq!(
        gateway.line("ADMIN: ").split_once(" says ").unwrap().1,
        format!("drain to {} of web: healthy, weight 1 -> draining, weight 1", slow.url())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_wait_and_not_the_requests() {
    let held = Held::begin().await;
    let Held { slow, operator, .. } = &held;
    let mut events = operator.events().await;
    let request = held.request().await;

    let removed = operator.ask("DELETE", &at("web", &slow.url(), "?deadline=1h"), "").await;
    assert_eq!((removed.status, &removed.json()["drain"]["removes"]), (202, &true.into()));
    // To add it now would race with its end.
    let again = operator.ask("POST", "/pools/web/backends", &json!({ "url": slow.url() }).to_string()).await;
    assert_eq!(again.status, 409);
    assert!(again.error().contains("is being removed: enable it to keep it"));
    assert_eq!(operator.ask("DELETE", &at("web", &slow.url(), "?deadline=50ms"), "").await.status, 202);
    let drained = events.find(|event| event["kind"] == "drained").await;
    assert_eq!(drained["reason"], "no time left, and 1 requests");
    let left = events.find(|event| event["kind"] == "removed").await;
    assert_eq!(left["backend"], slow.url());
    assert_eq!(operator.backend("web", &slow.url()).await, json!(null));
    held.may.add_permits(1);
    assert_eq!(request.await.unwrap(), (200, "done".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_taken_back_does_not_happen() {
    let held = Held::begin().await;
    let Held { slow, operator, .. } = &held;
    let request = held.request().await;
    assert_eq!(operator.ask("DELETE", &at("web", &slow.url(), ""), "").await.status, 202);
    assert_eq!(operator.post(&at("web", &slow.url(), "/enable")).await.json()["state"], "healthy");
    held.may.add_permits(1);
    assert_eq!(request.await.unwrap(), (200, "done".into()));
    // Longer than anyone takes to notice that it is empty.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(operator.backend("web", &slow.url()).await["state"], "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_under_way_is_off_where_the_file_says_something_new_of_its_backend() {
    let held = Held::begin().await;
    let Held { gateway, slow, other, operator, file, .. } = &held;
    let mut events = operator.events().await;
    let request = held.request().await;
    assert_eq!(operator.ask("DELETE", &at("web", &slow.url(), ""), "").await.status, 202);
    file.write(&Held::listing(&format!("{{ url = {:?}, weight = 2 }}, {:?}", slow.url(), other.url())));
    gateway.line("INFO: Configuration reloaded");
    held.may.add_permits(1);
    assert_eq!(request.await.unwrap(), (200, "done".into()));
    let drained = events.find(|event| event["kind"] == "drained").await;
    assert_eq!(drained["backend"], slow.url());
    until(|| async { operator.backend("web", &slow.url()).await["state"] == "healthy" }).await;
    assert_eq!(operator.backend("web", &slow.url()).await["weight"], 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_said_holds_until_the_file_says_something_else_about_it() {
    let servers = [
        Server::http(says("a")).await,
        Server::http(says("b")).await,
        Server::http(says("c")).await,
        Server::http(says("d")).await,
        Server::http(says("e")).await,
    ];
    let [a, b, c, d, e] = servers.each_ref().map(Server::url);
    let text = |backends: &str| format!("[pools.web]\nstrategy = \"random\"\n{QUIET}backends = [{backends}]");
    let file = ConfigFile::new(&text(&format!("{a:?}, {b:?}, {c:?}, {d:?}")));
    let operator = Operator::new();
    let gateway = start(&operator, &file);
    (0..4).for_each(|_| _ = gateway.line("HEALTH: "));

    assert_eq!(operator.post(&at("web", &a, "/drain")).await.status, 200);
    assert_eq!(operator.post(&at("web", &b, "/disable")).await.status, 200);
    assert_eq!(operator.ask("PUT", &at("web", &c, "/weight"), "{\"weight\": 5}").await.json()["weight"], 5.0);
    assert_eq!(operator.ask("DELETE", &at("web", &d, ""), "").await.status, 202);
    let added = operator.ask("POST", "/pools/web/backends", &json!({"url": e, "weight": 2}).to_string()).await;
    assert_eq!((added.status, &added.json()["weight"]), (201, &2.0.into()));
    assert_eq!(added.headers["location"], *at("web", &e, ""));
    until(|| async { operator.backend("web", &d).await == json!(null) }).await;
    // Who was added is checked like the others, and gets requests.
    until(|| async { operator.backend("web", &e).await["reason"] == "status: 200" }).await;
    until(|| async { get(&gateway.url).await.1 == "e" }).await;
    let again = operator.ask("POST", "/pools/web/backends", &json!({ "url": e }).to_string()).await;
    assert_eq!((again.status, again.error()), (409, format!("duplicate backend {e}: expected each backend once")));

    let is = |expected: [(&'static str, f64); 5]| {
        let (operator, names) = (operator.clone(), [&a, &b, &c, &d, &e]);
        async move {
            for ((state, weight), name) in expected.into_iter().zip(names) {
                let backend = operator.backend("web", name).await;
                assert_eq!(backend["state"].as_str().unwrap_or("gone"), state, "{name}");
                assert_eq!(backend["weight"].as_f64().unwrap_or_default(), weight, "{name}");
            }
        }
    };
    let changed = [("draining", 1.0), ("disabled", 1.0), ("healthy", 5.0), ("gone", 0.0), ("healthy", 2.0)];
    is(changed).await;
    // The file is read again, with something else in it that has changed.
    let settled =
        |more: &str| format!("{}\nretry = {{ attempts = {more} }}", text(&format!("{a:?}, {b:?}, {c:?}, {d:?}")));
    file.write(&settled("3"));
    gateway.line("INFO: Configuration reloaded");
    is(changed).await;
    // Another entry changes, and these are as they were.
    file.write(&text(&format!("{{ url = {a:?}, weight = 9 }}, {b:?}, {c:?}, {d:?}")));
    gateway.line("INFO: Configuration reloaded");
    is([("draining", 9.0), ("disabled", 1.0), ("healthy", 5.0), ("gone", 0.0), ("healthy", 2.0)]).await;
    // The file says something else about each: d is there again, and c and e are the file's.
    file.write(&text(&format!(
        "{{ url = {a:?}, weight = 9 }}, {b:?}, {{ url = {c:?}, weight = 3 }}, {{ url = {d:?}, weight = 4 }}, {{ url = {e:?}, weight = 6 }}"
    )));
    gateway.line("INFO: Configuration reloaded");
    is([("draining", 9.0), ("disabled", 1.0), ("healthy", 3.0), ("healthy", 4.0), ("healthy", 6.0)]).await;
    // And it lists b and e no more. Who was drained and comes back later is another one.
    file.write(&text(&format!("{c:?}, {d:?}")));
    gateway.line("INFO: Configuration reloaded");
    is([("gone", 0.0), ("gone", 0.0), ("healthy", 1.0), ("healthy", 1.0), ("gone", 0.0)]).await;
    file.write(&text(&format!("{a:?}, {c:?}, {d:?}")));
    gateway.line("INFO: Configuration reloaded");
    is([("healthy", 1.0), ("gone", 0.0), ("healthy", 1.0), ("healthy", 1.0), ("gone", 0.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let server = Server::http(says("one")).await;
    let url = server.url();
    let file =
        ConfigFile::new(&format!("[pools.api]\n[pools.web]\n{QUIET}backends = [{url:?}]\n[[routes]]\npool = \"web\""));
    let operator = Operator::new();
    let gateway = start(&operator, &file);
    gateway.line("HEALTH: ");
    let before = operator.backend("web", &url).await;
    let new = |body: &str| ("POST", "/pools/web/backends".to_owned(), body.to_owned());
    let of = |method: &'static str, what: &str| (method, at("web", &url, what), String::new());
    let weight = |body: &str| ("PUT", at("web", &url, "/weight"), body.to_owned());
    for ((method, path, body), status, words) in [
        (("GET", "/nowhere".into(), String::new()), 404, "there is nothing here"),
        (("DELETE", "/pools".into(), String::new()), 405, "not with this method"),
        (("POST", "/".into(), String::new()), 405, "not with this method"),
        (("POST", "/healthz".into(), String::new()), 405, "not with this method"),
        (
            ("GET", "/pools/shop/explain".into(), String::new()),
            404,
            "there is no pool \"shop\": expected one of api, web",
        ),
        (("POST", at("shop", &url, "/drain"), String::new()), 404, "there is no pool \"shop\""),
        (
            ("POST", at("web", "http://a:1", "/drain"), String::new()),
            404,
            "pool web has no backend \"http://a:1\": expected one of http://127",
        ),
        (of("POST", "/drain?deadline=5"), 422, "deadline: invalid duration \"5\": expected a duration such as 5s"),
        (of("POST", "/drain?deadline=0s"), 422, "deadline: invalid duration"),
        (of("POST", "/drain?force=perhaps"), 422, "invalid query: "),
        (of("POST", "/drain?dedline=5s"), 422, "unknown field `dedline`"),
        (of("POST", "/enable?force=true"), 422, "unknown field `force`"),
        (of("GET", "/drain"), 405, "not with this method"),
        (weight(""), 415, "invalid content-type \"\": expected application/json"),
        (weight("{"), 400, "invalid body: EOF while parsing"),
        (weight("{\"weight\": -1}"), 422, "invalid weight -1: expected a finite number that is not negative"),
        (weight("{\"weight\": 1e999}"), 400, "invalid body: number out of range"),
        (weight("{\"weight\": \"2\"}"), 422, "invalid body: invalid type: string"),
        (weight("{\"wight\": 2}"), 422, "invalid body: unknown field `wight`, expected `weight`"),
        (weight("{\"weight\": 2}"), 409, "weights do nothing under round_robin"),
        (weight(&format!("{{\"weight\": 2{}}}", " ".repeat(20_000))), 413, "length limit exceeded"),
        (new("{}"), 422, "invalid body: missing field `url`"),
        (new("{\"url\": \"a:1\"}"), 422, "invalid backend URL \"a:1\""),
        (new(&json!({ "url": gateway.url }).to_string()), 422, "is the gateway itself: expected another address"),
        (new(&json!({ "url": format!("http://{}", operator.address) }).to_string()), 422, "is the gateway itself"),
        (new(&json!({ "url": url }).to_string()), 409, "duplicate backend http://127"),
        (new("{\"url\": \"http://a:1\", \"priority\": 1}"), 422, "priority would do nothing"),
        (new("{\"url\": \"http://a:1\", \"priority\": -1}"), 422, "invalid body: invalid value: integer `-1`"),
        (new("{\"url\": \"http://a:1\", \"zone\": \"b\"}"), 422, "zone would do nothing"),
        (new("{\"url\": \"http://a:1\", \"weight\": 3}"), 409, "weights do nothing under round_robin"),
    ] {
        let answer = operator.ask(method, &path, &body).await;
        assert_eq!(answer.status, status, "{method} {path} {body:.80}: {answer:?}");
        assert!(answer.error().contains(words), "{method} {path} {body:.80}: {answer:?}");
    }
    let form = operator.with("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.ask("POST", "/pools/web/backends", "{\"url\": \"http://a:1\"}").await.status, 415);
    let after = operator.pools().await;
    assert_eq!(after["pools"][1]["backends"].as_array().unwrap().len(), 1);
    let after = operator.backend("web", &url).await;
    for field in ["state", "since", "weight", "drain"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    // Any spelling of a URL is the same backend.
    let spelled = url.replace("http", "HTTP") + "/";
    assert_eq!(operator.post(&at("web", &spelled, "/enable")).await.json()["id"], url);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_who_would_be_picked_and_the_proxy_picks_so() {
    let servers = [Server::http(says("a")).await, Server::http(says("b")).await, Server::http(says("c")).await];
    let [a, b, c] = servers.each_ref().map(Server::url);
    let file = ConfigFile::new(&format!(
        "[pools.web]\n{QUIET}backends = [{a:?}, {b:?}, {c:?}]\nstrategy = {{ name = \"maglev\", key = \"query:user, address\" }}\n[pools.turns]\nhealth = \"off\"\nbackends = [{a:?}]\n[[routes]]\npool = \"web\""
    ));
    let operator = Operator::new();
    let gateway = start(&operator, &file);
    (0..3).for_each(|_| _ = gateway.line("HEALTH: "));
    let name = |url: &str| ["a", "b", "c"][[&a, &b, &c].iter().position(|it| *it == url).unwrap()];
    assert_eq!(operator.post(&at("web", &c, "/disable")).await.status, 200);
    let mut picked = std::collections::BTreeSet::new();
    for user in 0..20 {
        let told = operator.get(&format!("/pools/web/explain?key=user%20{user}")).await.json();
        assert_eq!(
            (&told["key"], &told["key_source"]),
            (&format!("user {user}").into(), &"query:user, address".into())
        );
        let expected = told["picked"].as_str().unwrap();
        picked.insert(expected.to_owned());
        // The key is compared as it is sent; so what is explained is asked for as it is sent.
        let sent = operator.get(&format!("/pools/web/explain?key=user%252520{user}")).await.json();
        assert_eq!(
            get(format!("{}/?user=user%2520{user}", gateway.url)).await.1,
            name(sent["picked"].as_str().unwrap())
        );
        assert_eq!(told["out"][0]["id"], c);
        assert_eq!((&told["out"][0]["why"], told["candidates"].as_array().unwrap().len()), (&"disabled".into(), 2));
        assert!(told["out"][0]["text"].as_str().unwrap().starts_with("disabled, disabled by the host, for "));
    }
    assert_eq!(picked.len(), 2);
    // Without a user it is the address that counts.
    let told = operator.get("/pools/web/explain?key=127.0.0.1").await.json();
    assert_eq!(get(&gateway.url).await.1, name(told["picked"].as_str().unwrap()));

    let told = operator.get("/pools/turns/explain").await.json();
    assert_eq!((&told["picked"], &told["key"], &told["key_source"]), (&(&*a).into(), &json!(null), &json!(null)));
    assert_eq!(operator.get("/pools/turns/explain?kex=1").await.status, 422);
}
