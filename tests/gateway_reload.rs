//! A gateway reads its configuration again: what changes, what stays, and what it says about it.

mod common;

use bytes::Bytes;
use common::{
    Server, answers_with,
    gateway::{ConfigFile, Gateway, free_port},
    gateway_load::{Load, pools},
    get, says, until,
};
use http::Response;
use http_body_util::Full;
use std::time::Duration;
use tokio::time::Instant;
use tower_balancer::http::Peer;

/// Answers with the port of the connection on which the request came.
async fn tells_the_connection() -> Server {
    Server::http(answers_with(|request| async move {
        let peer = request.extensions().get::<Peer>().unwrap().address();
        Response::new(Full::<Bytes>::from(peer.port().to_string()))
    }))
    .await
}

/// Waits for what was written to be taken up: once, for no signal was sent as well.
fn taken_up(gateway: &Gateway) {
    gateway.line("INFO: Configuration reloaded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_during_a_hundred_reloads_under_load() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await, Server::http(says("three")).await];
    let [one, two, three] = servers.each_ref().map(Server::url);
    let texts = [
        format!("[pools.web]\nbackends = [{one:?}, {two:?}, {three:?}]"),
        format!("[pools.web]\nbackends = [{two:?}, {three:?}]\nstrategy = \"least_latency\""),
        format!(
            "[pools.web]\nbackends = [{{ url = {one:?}, weight = 3 }}, {two:?}]\nstrategy = \"random\"\nslow_start = \"5s\""
        ),
        format!("[pools.next]\nbackends = [{one:?}]\n[pools.web]\nbackends = [{three:?}]\n[[routes]]\npool = \"next\""),
        format!(
            "[pools.web]\nbackends = [{one:?}, {{ url = {two:?}, priority = 1 }}]\nhealth = \"tcp\"\nupstream = {{ max_idle = 3 }}"
        ),
        format!(
            "[pools.web]\nbackends = [{one:?}]\nhealth = \"off\"\nretry = {{ attempts = 1 }}\nlimits = {{ max_in_flight = 500 }}"
        ),
    ];
    let file = ConfigFile::new(&texts[0]);
    let gateway = Gateway::start(&["--admin", "off", "--log", "text", "--workers", "2", "--config", file.path()]);
    let load = Load::on(&gateway.url, 6);
    for number in 1..=100 {
        file.replace(&texts[number % texts.len()]);
        gateway.signal("-HUP");
        gateway.line("INFO: Configuration reloaded");
        load.more(5).await;
    }
    let (answered, failed) = load.end().await;
    assert!(answered >= 500, "{answered}");
    assert!(failed.is_empty(), "{} of {answered} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_stays_keeps_its_connection_its_counters_and_its_health() {
    let stays = tells_the_connection().await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let joins = Server::http(says("new")).await;
    let text = |rest: &str| {
        format!("[server]\nworkers = 1\n[pools.web]\nhealth = {{ interval = \"1h\", fast_interval = \"1h\" }}\n{rest}")
    };
    let (stays_url, joins_url) = (stays.url(), joins.url());
    let file = ConfigFile::new(&text(&format!("backends = [{stays_url:?}, {dead:?}]")));
    let admin = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&["--admin", &admin, "--config", file.path()]);
    (0..2).for_each(|_| _ = gateway.line("HEALTH: "));
    let connection = get(&gateway.url).await;
    for _ in 0..4 {
        assert_eq!(get(&gateway.url).await, connection);
    }

    // Another strategy, another retry, one backend more.
    let strategy = "strategy = { name = \"maglev\", key = \"address\" }\nretry = { attempts = 3 }";
    file.write(&text(&format!("backends = [{joins_url:?}, {stays_url:?}, {dead:?}]\n{strategy}")));
    taken_up(&gateway);
    let told = pools(&admin).await;
    let pool = &told["pools"][0];
    assert_eq!((&pool["name"], &pool["strategy"]), (&"web".into(), &"maglev".into()));
    let of = |url: &str| pool["backends"].as_array().unwrap().iter().find(|it| it["url"] == url).unwrap();
    assert_eq!(of(&stays_url)["completed"], 5);
    assert_eq!(of(&dead)["state"], "unhealthy");
    assert_eq!(of(&joins_url)["completed"], 0);

    // Only the old one again: its connection is still there.
    file.write(&text(&format!("backends = [{stays_url:?}]\n{strategy}")));
    taken_up(&gateway);
    assert_eq!(get(&gateway.url).await, connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_noticed_without_a_signal_and_a_torn_write_is_waited_out() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let file = ConfigFile::new(&format!("[pools.web]\nbackends = [{one:?}]"));
    let gateway = Gateway::by(&file);
    assert_eq!(get(&gateway.url).await.1, "one");
    // Written in pieces, each of which lasts for less than it takes to be believed; the first ones would be wrong, or would
    // be right and mean something else.
    let text = format!("[pools.web]\nbackends = [{two:?}]\n[pools.more]\n[[routes]]\npool = \"web\"\n");
    let (pool, route) = (text.find("[pools.more]").unwrap(), text.find("[[routes]]").unwrap());
    let mut longest = Duration::ZERO;
    for round in 0..40 {
        for end in [0, 10, pool, route] {
            let begun = Instant::now();
            file.write(&format!("# {round}\n{}", &text[..end]));
            tokio::time::sleep(Duration::from_millis(10)).await;
            longest = longest.max(begun.elapsed());
        }
    }
    file.write(&text);
    let reloaded = gateway.line("INFO: Configuration reloaded");
    if longest < Duration::from_millis(50) {
        assert_eq!(reloaded, "INFO: Configuration reloaded: pools 2, routes 1");
    } else {
        eprintln!("SKIPPED: a piece stood for {longest:?}, as long as a whole file");
        until(|| async { get(&gateway.url).await.1 == "two" }).await;
    }
    assert_eq!(get(&gateway.url).await.1, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_says_why() {
    let server = Server::http(says("one")).await;
    let good = format!("[pools.web]\nbackends = [{:?}]\n", server.url());
    let file = ConfigFile::new(&good);
    let gateway = Gateway::by(&file);
    for (bad, why) in [
        (format!("{good}strategy = \"fastest\""), ":3: pools.web.strategy: unknown strategy"),
        (format!("{good}[[routes]]\npool = \"nowhere\""), ":4: routes[0].pool: there is no pool"),
        ("[pools.web".into(), ":1: unclosed table"),
        (
            "[pools.web]\nbackends = [\"http://${TEST_NOT_SET}\"]".into(),
            ":2: pools.web.backends[0]: the environment variable",
        ),
    ] {
        file.replace(&bad);
        gateway.signal("-HUP");
        // It may be told twice: the change was noticed as well.
        gateway.line(&format!("ERROR: Configuration not reloaded: {}{why}", file.path()));
        assert_eq!(get(&gateway.url).await, (200, "one".into()));
    }
    std::fs::remove_file(file.as_path()).unwrap();
    gateway.signal("-HUP");
    gateway.line(&format!("ERROR: Configuration not reloaded: {}: cannot be read: No such file", file.path()));
    assert_eq!(get(&gateway.url).await, (200, "one".into()));
    // And what is right again is taken up, without being asked.
    file.write(&format!("{good}strategy = \"random\""));
    gateway.line("INFO: Configuration reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_restart_is_said_and_the_rest_is_taken_up() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let listen = format!("127.0.0.1:{}", free_port());
    let server = |workers: u16, idle: &str| {
        format!(
            "[server]\nlisten = \"{listen}\"\nadmin = \"off\"\nworkers = {workers}\nlimits = {{ idle_timeout = \"{idle}\" }}\n"
        )
    };
    let file = ConfigFile::new(&format!("{}[pools.web]\nbackends = [{one:?}]", server(1, "9s")));
    let mut command = std::process::Command::new(common::gateway::binary());
    command.args(["--config", file.path()]);
    let gateway = Gateway::spawn(command, listen.rsplit_once(':').unwrap().1.parse().unwrap());
    gateway.line("INFO: Health checker of web started (checking every 5s)");

    let moved = server(2, "8s").replace(&listen, "127.0.0.1:1");
    file.write(&format!("{moved}[pools.web]\nbackends = [{two:?}]\nhealth = {{ interval = \"7s\" }}"));
    gateway.signal("-HUP");
    for key in ["listen", "workers", "limits"] {
        assert_eq!(gateway.line("ERROR: server."), format!("ERROR: server.{key} has changed: this takes a restart"));
    }
    gateway.line("INFO: Health checker of web started (checking every 7s)");
    gateway.line("INFO: Configuration reloaded");
    assert_eq!(get(&gateway.url).await, (200, "two".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_end_leave_nobody_out_for_ever() {
    let server = Server::http(says("one")).await;
    let pool = format!("[pools.web]\nbackends = [{:?}]\n", server.url());
    let file = ConfigFile::new(&format!("{pool}health = {{ path = \"/\", status = [\"500\"] }}"));
    let gateway = Gateway::by(&file);
    gateway.line("HEALTH: UNHEALTHY");
    assert_eq!(get(&gateway.url).await.0, 503);
    file.write(&format!("{pool}health = \"off\""));
    taken_up(&gateway);
    assert_eq!(get(&gateway.url).await, (200, "one".into()));
}
