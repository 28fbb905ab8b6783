//! The operator's page in a real browser: it shows what is, changes what it is asked to, and harms nobody.
//!
//! Needs Chromium (`apt-get install chromium chromium-driver`); without it each test says that it was skipped.
//! `cargo test --test dashboard -- --ignored` takes the pictures in `examples/gateway/screenshots`.

mod common;

use bytes::Bytes;
use common::{
    Server,
    admin::{Operator, at},
    answers_with,
    browser::{Browser, ENTER, ESCAPE, SPACE},
    gateway::{ConfigFile, Gateway, free_port},
    gateway_load::Load,
    get, says,
};
use http::Response;
use http_body_util::Full;
use serde_json::json;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// A browser is a lot for a small machine: one at a time.
static ONE: Mutex<()> = Mutex::const_new(());

/// A gateway with an operator, and a browser that shows its page.
struct Desk {
    operator: Operator,
    gateway: Gateway,
    file: ConfigFile,
    browser: Browser,
    _alone: MutexGuard<'static, ()>,
}

impl Desk {
    async fn open(text: &str) -> Option<Self> {
        let alone = ONE.lock().await;
        let browser = Browser::start().await?;
        let (file, operator) = (ConfigFile::new(text), Operator::new());
        let gateway = Gateway::start(&["--admin", &operator.address, "--config", file.path()]);
        browser.open(&format!("http://{}/", operator.address)).await;
        Some(Self { operator, gateway, file, browser, _alone: alone })
    }

    async fn is_live(&self) {
        self.browser.until("document.querySelector('#live').dataset.is === 'live'").await;
    }

    /// Waits until the page shows `id` in `state`.
    async fn shows(&self, id: &str, state: &str) {
        self.browser.until(&format!("document.querySelector('tr[data-id={id:?}][data-state={state}]')")).await;
    }

    /// Nothing was complained about, by the page or about it.
    async fn is_well(&self) {
        let console = self.browser.console().await;
        assert!(console.is_empty(), "{console:#?}");
    }
}

fn web(backends: &[&str], more: &str) -> String {
    format!(
        "[pools.web]\nhealth = {{ interval = \"1h\", fast_interval = \"1h\" }}\nhedge = \"off\"\nbackends = {backends:?}\n{more}"
    )
}

/// A button of a backend.
fn button(what: &str, id: &str) -> String {
    format!("button[aria-label='{what} {id}']")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_what_happens_and_says_when_it_cannot() {
    let (stays, dies) = (Server::http(says("stays")).await, Server::http(says("dies")).await);
    let (one, two) = (stays.url(), dies.url());
    // Nobody asks how they are: it is the traffic that finds out.
    let long = "outlier = { base_ejection = \"100s\" }";
    let text = format!("[pools.web]\nhealth = \"off\"\n{long}\nbackends = [{one:?}, {two:?}]");
    let Some(desk) = Desk::open(&text).await else { return };
    desk.is_live().await;
    desk.shows(&one, "healthy").await;
    desk.shows(&two, "healthy").await;
    desk.is_well().await;
    let browser = &desk.browser;
    // When the page shows what, by its own clock.
    let watch = format!(
        "window.seen = []; window.later = setTimeout; window.setTimeout = (f, ms) => f.name === 'refresh' && ms === 1000 ? 0 : later(f, ms); const row = document.querySelector('tr[data-id={two:?}]');
         new MutationObserver(() => seen.push(['row', row.dataset.state, Date.now()])).observe(row, {{attributeFilter: ['data-state']}});
         new MutationObserver(() => seen.push(['event', document.querySelector('#events li .kind').textContent, Date.now()]))
           .observe(document.querySelector('#events'), {{childList: true}});"
    );
    browser.run(&watch).await;
    // The last of the looks that the page has each second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    browser.run("seen.length = 0").await;
    let mut events = desk.operator.events().await;
    let address = dies.kill().await;
    for _ in 0..2 {
        assert_eq!(get(&desk.gateway.url).await, (200, "stays".into()));
    }
    let told = events.find(|event| event["kind"] == "health").await;
    assert_eq!(told["backend"], two);
    desk.shows(&two, "ejected").await;
    browser.until("seen.some(([what]) => what === 'event')").await;
    // It came by the event, not by chance at the next look: the event is there first.
    let seen = browser.run("return seen").await;
    let kinds: Vec<_> = seen.as_array().unwrap().iter().map(|seen| seen[0].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["event", "row"], "{seen}");
    let happened = browser.run(&format!("return Date.parse({})", told["time"])).await.as_i64().unwrap();
    let took = |place: usize| seen[place][2].as_i64().unwrap() - happened;
    eprintln!("a killed backend: told on the page after {} ms, shown in its row after {} ms", took(0), took(1));
    let row = browser.run(&format!("return document.querySelector('tr[data-id={two:?}]').innerText")).await;
    let row = row.as_str().unwrap();
    assert!(row.contains("ejected") && row.contains("Connection refused") && row.contains("tried again in "), "{row}");
    assert_eq!(browser.run("return document.title").await, "1 out · Gateway");
    let summary = browser.run("return document.querySelector('#summary').textContent").await;
    assert_eq!(summary, "1 of 2 available");

    // The gateway goes, and comes back; the page may look each second again.
    desk.is_well().await;
    browser.run("window.setTimeout = later").await;
    let Desk { operator, gateway, file, browser, _alone } = desk;
    let again = Server::http_at(address, says("dies")).await;
    drop(gateway);
    browser
        .until("document.querySelector('#live').textContent === 'connection lost (no connection): trying again'")
        .await;
    assert_eq!(browser.run("return document.querySelector('#live').dataset.is").await, "lost");
    let _gateway = Gateway::start(&["--admin", &operator.address, "--config", file.path()]);
    browser.until("document.querySelector('#live').textContent === 'live'").await;
    browser.until(&format!("document.querySelector('tr[data-id={two:?}][data-state=healthy]')")).await;
    // And it is followed again.
    assert_eq!(operator.post(&at("web", &one, "/disable")).await.status, 200);
    browser
        .until("[...document.querySelectorAll('#events .words')].some(it => it.textContent.includes('says disable'))")
        .await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_takes_a_button_and_a_confirmation_and_the_last_one_takes_more() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let Some(desk) = Desk::open(&web(&[&one, &two], "")).await else { return };
    desk.shows(&one, "healthy").await;
    let browser = &desk.browser;
    browser.click(&button("drain", &one)).await;
    browser.until("document.querySelector('#confirm').open").await;
    let title = browser.run("return document.querySelector('#confirm-title').textContent").await;
    assert_eq!(title, format!("Drain {one}?"));
    // Whoever hesitates has done nothing.
    browser.click("#confirm-no").await;
    browser.until("!document.querySelector('#confirm').open").await;
    assert_eq!(desk.operator.backend("web", &one).await["state"], "healthy");

    browser.click(&button("drain", &one)).await;
    browser.run("document.querySelector('#deadline').value = '90s'").await;
    browser.click("#confirm-yes").await;
    desk.shows(&one, "draining").await;
    assert_eq!(desk.operator.backend("web", &one).await["state"], "draining");
    browser.until("!document.querySelector('#confirm').open").await;

    // The other one is the last: it says so, and asks for more.
    for what in ["drain", "disable"] {
        desk.is_well().await;
        browser.click(&button(what, &two)).await;
        assert_eq!(browser.run("return document.querySelector('#force-label').hidden").await, true);
        browser.click("#confirm-yes").await;
        browser.until("!document.querySelector('#confirm-problem').hidden").await;
        let problem = browser.run("return document.querySelector('#confirm-problem').textContent").await;
        assert!(problem.as_str().unwrap().contains("is the last one of web that is available"), "{problem}");
        assert_eq!(desk.operator.backend("web", &two).await["state"], "healthy");
        // The browser notes the 409 itself.
        let console = browser.console().await;
        assert!(console.len() == 1 && console[0].contains("409"), "{console:#?}");
        browser.click("#confirm-no").await;
    }
    browser.click(&button("disable", &two)).await;
    browser.click("#confirm-yes").await;
    browser.until("!document.querySelector('#force-label').hidden").await;
    browser.click("#force").await;
    browser.click("#confirm-yes").await;
    desk.shows(&two, "disabled").await;
    browser.until("[...document.querySelectorAll('.flag.bad')].some(flag => !flag.hidden)").await;
    assert_eq!(get(&desk.gateway.url).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_weighed_removed_and_added_and_what_is_wrong_is_said() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await, Server::http(says("three")).await];
    let [one, two, three] = servers.each_ref().map(Server::url);
    let Some(desk) = Desk::open(&web(&[&one, &two], "strategy = \"weighted_round_robin\"")).await else { return };
    desk.shows(&one, "healthy").await;
    let browser = &desk.browser;
    browser.click(&button("weigh", &one)).await;
    browser.until("document.querySelector('#confirm').open").await;
    assert_eq!(
        browser.run("return [document.activeElement.id, document.activeElement.value]").await,
        json!(["weight", "1"])
    );
    browser.run("document.activeElement.value = '2.5'").await;
    browser.click("#confirm-yes").await;
    browser.until("!document.querySelector('#confirm').open").await;
    assert_eq!(desk.operator.backend("web", &one).await["weight"], 2.5);
    browser.until(&format!("document.querySelector('tr[data-id={one:?}]').innerText.includes('2.5')")).await;

    browser.click(&button("drain", &two)).await;
    browser.click("#leaves").await;
    browser.click("#confirm-yes").await;
    browser.until(&format!("!document.querySelector('tr[data-id={two:?}]')")).await;
    assert_eq!(desk.operator.backend("web", &two).await, json!(null));
    desk.is_well().await;

    let add = async |url: &str| {
        browser
            .run(&format!(
                "const url = document.querySelector('#url-0'); url.closest('details').open = true; url.value = {url:?}"
            ))
            .await;
        browser.click("button[data-act=add]").await;
    };
    add("three").await;
    browser.until("document.querySelector('#url-0').closest('details').querySelector('.problem').textContent.includes('expected')").await;
    // The browser notes the 422 itself.
    assert_eq!(browser.console().await.len(), 1);
    add(&three).await;
    desk.shows(&three, "healthy").await;
    assert_eq!(browser.run("return document.querySelector('#url-0').value").await, "");
    desk.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_hears_of_no_events_says_so() {
    let server = Server::http(says("one")).await;
    let Some(desk) = Desk::open(&web(&[&server.url()], "")).await else { return };
    desk.is_live().await;
    // When the gateway is back, only its pools are.
    let script = "const real = window.fetch;
        window.fetch = (path, options) => path === '/events' ? Promise.reject(new TypeError('refused')) : real(path, options)";
    desk.browser.run(script).await;
    let Desk { operator, gateway, file, browser, _alone } = desk;
    drop(gateway);
    browser.until("document.querySelector('#live').textContent.startsWith('connection lost')").await;
    let _gateway = Gateway::start(&["--admin", &operator.address, "--config", file.path()]);
    browser.until("document.querySelector('#live').textContent === 'no events (no connection): trying again'").await;
    browser.until(&format!("document.querySelector('tr[data-id={:?}][data-state=healthy]')", server.url())).await;
    assert_eq!(browser.run("return document.querySelector('#live').dataset.is").await, "lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_question_for_events_is_never_answered_asks_again() {
    let server = Server::http(says("one")).await;
    let Some(desk) = Desk::open(&web(&[&server.url()], "")).await else { return };
    desk.is_live().await;
    // From then on, and with a clock that is in a hurry.
    let script = "const fetches = window.fetch, waits = window.setTimeout;
        window.asked = 0;
        window.setTimeout = (then, time) => waits(then, Math.min(time, 500));
        window.fetch = (path, options) => path !== '/events' ? fetches(path, options) : new Promise((_, fails) => {
            window.asked += 1;
            options.signal.addEventListener('abort', () => fails(options.signal.reason));
        })";
    desk.browser.run(script).await;
    let Desk { operator, gateway, file, browser, _alone } = desk;
    drop(gateway);
    let _gateway = Gateway::start(&["--admin", &operator.address, "--config", file.path()]);
    browser.until("document.querySelector('#live').textContent === 'no events (silence): trying again'").await;
    browser.until("asked > 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_done_by_keyboard_and_the_focus_stays() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let more = "strategy = { name = \"maglev\", key = \"path\" }";
    let Some(desk) = Desk::open(&web(&[&one, &two], more)).await else { return };
    desk.shows(&two, "healthy").await;
    let browser = &desk.browser;
    let (enter, space) = (ENTER.to_string(), SPACE.to_string());
    // First of all, past the head.
    browser.tab_to("a.skip").await;
    browser.tab_to(&button("drain", &two)).await;
    // The rows go on to be brought up to date, and the focus is where it was.
    let looked = "performance.getEntriesByType('resource').filter(entry => entry.name.endsWith('/pools')).length";
    let before = browser.run(&format!("return {looked}")).await;
    browser.until(&format!("{looked} >= {before} + 2")).await;
    assert_eq!(browser.run(&format!("return document.activeElement.matches({:?})", button("drain", &two))).await, true);
    browser.keys(&enter).await;
    browser.until("document.querySelector('#confirm').open").await;
    // The safe choice has the focus; and Escape is one.
    assert_eq!(browser.run("return document.activeElement.id").await, "confirm-no");
    browser.keys(&ESCAPE.to_string()).await;
    browser.until("!document.querySelector('#confirm').open").await;
    assert_eq!(browser.run(&format!("return document.activeElement.matches({:?})", button("drain", &two))).await, true);
    browser.keys(&space).await;
    browser.tab_to("#confirm-yes").await;
    browser.keys(&enter).await;
    desk.shows(&two, "draining").await;
    // What takes it back is under the hand.
    browser.until(&format!("document.activeElement.matches({:?})", button("enable", &two))).await;
    browser.keys(&enter).await;
    browser.tab_to("#confirm-yes").await;
    browser.keys(&enter).await;
    desk.shows(&two, "healthy").await;

    browser.tab_to("summary").await;
    browser.keys(&enter).await;
    browser.tab_to(".explain input").await;
    browser.keys(&format!("/cart{ENTER}")).await;
    browser.until("document.querySelector('.explain .verdict')").await;
    let expected = desk.operator.get("/pools/web/explain?key=%2Fcart").await.json();
    let verdict = browser.run("return document.querySelector('.explain .verdict').textContent").await;
    assert_eq!(verdict, format!("It would go to {} by path", expected["picked"].as_str().unwrap()));
    browser.tab_to("#events").await;
    desk.is_well().await;

    // What a screen reader goes by.
    let told = browser
        .run(
            "const all = what => document.querySelectorAll(what).length;
             return {main: all('main'), header: all('header'), headings: [...document.querySelectorAll('h1, h2')].every(it => it.textContent || it.closest('dialog')),
                     columns: all('th[scope=col]'), cells: all('tbody tr:first-child td[role=cell]'),
                     named: [...document.querySelectorAll('button, input, [role=meter]')].every(it => it.getAttribute('aria-label') || it.textContent.trim() || it.labels?.length),
                     live: document.querySelector('#events').getAttribute('aria-live'), lang: document.documentElement.lang}",
        )
        .await;
    assert_eq!(
        told,
        json!({"main": 1, "header": 1, "headings": true, "columns": 8, "cells": 8, "named": true, "live": "polite", "lang": "en"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_changes_nothing() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let Some(desk) = Desk::open(&web(&[&one, &two], "")).await else { return };
    desk.shows(&one, "healthy").await;
    let path = format!("http://{}{}", desk.operator.address, at("web", &one, "/disable"));
    let form = format!("<form method=post action={path:?}></form>");
    let evil = Server::http(answers_with(move |_| {
        let page = Response::builder().header("content-type", "text/html").body(Full::<Bytes>::from(form.clone()));
        async move { page.unwrap() }
    }))
    .await;
    let browser = &desk.browser;
    let ask = format!(
        "return (async () => {{ const told = [];
           for (const mode of ['no-cors', 'cors']) {{
             try {{ told.push((await fetch({path:?}, {{method: 'POST', mode}})).type); }} catch (error) {{ told.push(error.name); }}
           }}
           return told; }})()"
    );
    // By another port, and by another name for the same machine.
    for origin in [evil.url(), format!("http://localhost:{}", evil.address.port())] {
        browser.open(&origin).await;
        assert_eq!(browser.run(&ask).await, json!(["TypeError", "TypeError"]), "{origin}");
        assert_eq!(desk.operator.backend("web", &one).await["state"], "healthy", "{origin}");
        browser.run("document.forms[0].submit()").await;
        browser.until("document.body.innerText.includes('only our own page may change something')").await;
        assert_eq!(desk.operator.backend("web", &one).await["state"], "healthy", "{origin}");
    }
    // Nor does it show our page within its own.
    browser.open(&evil.url()).await;
    browser.console().await;
    let frame = format!(
        "return new Promise(done => {{ const frame = document.createElement('iframe'); frame.onload = () => done(true);
           frame.src = 'http://{}/'; document.body.append(frame); }})",
        desk.operator.address
    );
    browser.run(&frame).await;
    let console = browser.console().await;
    assert!(
        console.iter().any(|line| line.contains("frame-ancestors") || line.contains("X-Frame-Options")),
        "{console:#?}"
    );
    // The same from our own page does what it says.
    browser.open(&format!("http://{}/", desk.operator.address)).await;
    assert_eq!(browser.run(&ask).await, json!(["basic", "basic"]));
    desk.shows(&one, "disabled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_asks_for_the_token_and_keeps_it_out_of_addresses() {
    let server = Server::http(says("one")).await;
    let (url, token) = (server.url(), "correct-horse-battery-staple");
    let text = format!("[server]\nadmin_token = {token:?}\n{}", web(&[&url], ""));
    let Some(desk) = Desk::open(&text).await else { return };
    let browser = &desk.browser;
    browser.until("document.querySelector('#ask').open").await;
    // Nothing is asked for before there is a token.
    desk.is_well().await;
    browser.keys(&format!("{token}{ENTER}")).await;
    desk.is_live().await;
    desk.shows(&url, "healthy").await;
    desk.is_well().await;
    let address = browser
        .run("return [location.href, ...performance.getEntriesByType('resource').map(entry => entry.name)].join(' ')")
        .await;
    assert!(!address.as_str().unwrap().contains("horse"), "{address}");
    assert_eq!(browser.run("return [document.cookie, localStorage.length]").await, json!(["", 0]));
    // It lasts for as long as the tab.
    browser.open(&format!("http://{}/", desk.operator.address)).await;
    desk.shows(&url, "healthy").await;
    // Another one from now on.
    desk.file.write(&text.replace(token, "another-token-of-good-length"));
    browser.until("document.querySelector('#ask').open && !document.querySelector('#ask-problem').hidden").await;
    browser.keys(&format!("nonsense{ENTER}")).await;
    browser.until("document.querySelector('#ask').open && document.querySelector('#token').value === ''").await;
    browser.keys(&format!("another-token-of-good-length{ENTER}")).await;
    browser.until("!document.querySelector('#ask').open").await;
    desk.is_live().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_readable_on_a_phone_in_the_dark_and_shows_words_as_words() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let evil = "<img src=x onerror=document.title=1><b>eu</b>";
    let dead = format!("http://a-very-long-name.of-a-backend.in-a-far-away-region.example.invalid:{}", free_port());
    let text = format!(
        "[server]\nzone = {evil:?}\n[pools.\"<i>web</i>\"]\nbackends = [{{ url = {one:?}, zone = {evil:?} }}, {two:?}, {dead:?}]"
    );
    let Some(desk) = Desk::open(&text).await else { return };
    let browser = &desk.browser;
    desk.shows(&dead, "unhealthy").await;
    // Words are words.
    assert_eq!(browser.run("return document.querySelectorAll('main img, main b img, main i, td b').length").await, 0);
    assert!(browser.run("return document.querySelector('main').innerText").await.as_str().unwrap().contains(evil));
    assert_eq!(browser.run("return document.querySelector('.pool h2').textContent").await, "<i>web</i>");
    let fits = "const wide = document.scrollingElement; return [wide.scrollWidth <= innerWidth, innerWidth]";
    for (width, is_phone) in
        [(360, true), (412, true), (768, true), (800, false), (1024, false), (1280, false), (1920, false)]
    {
        browser.screen(width, 800, is_phone).await;
        assert_eq!(browser.run(CRAMPED).await, json!([]), "{width}");
        assert_eq!(browser.run(fits).await, json!([true, width]), "{width}");
    }
    browser.screen(360, 740, true).await;
    let small = "return [...document.querySelectorAll('td.acts button')].filter(it => it.offsetParent).every(it => it.offsetHeight >= 28 && it.getBoundingClientRect().right <= 360)";
    assert_eq!(browser.run(small).await, true);
    browser.click(&button("disable", &two)).await;
    assert_eq!(browser.run(fits).await, json!([true, 360]));
    browser.click("#confirm-yes").await;
    desk.shows(&two, "disabled").await;

    // Every word can be told from what is behind it (WCAG 2.2, 1.4.3), in both schemes.
    for scheme in ["light", "dark"] {
        browser.scheme(scheme).await;
        let poor = browser.run(CONTRAST).await;
        assert_eq!(poor, json!([]), "{scheme}");
        let paper = browser.run("return getComputedStyle(document.documentElement).backgroundColor").await;
        let light: u32 = paper.as_str().unwrap()[4..].split(',').next().unwrap().parse().unwrap();
        assert_eq!(light > 128, scheme == "light", "{paper}");
    }
    desk.is_well().await;
}

/// The cells that are too small for what is in them, with all three buttons, as one that is ejected has them.
const CRAMPED: &str = r#"
    document.querySelectorAll('.acts button').forEach(button => button.disabled = false);
    return [...document.querySelectorAll('tbody td')].filter(cell => cell.scrollWidth > cell.clientWidth + 1)
        .map(cell => `${cell.className} ${cell.scrollWidth} > ${cell.clientWidth}`);
"#;

/// The texts whose contrast is below 4.5.
const CONTRAST: &str = r#"
    const parse = colour => colour.match(/[\d.]+/g).map(Number);
    const light = colour => { const [r, g, b] = parse(colour).map(it => it / 255).map(it => it <= .04045 ? it / 12.92 : ((it + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
    const behind = element => { for (let it = element; it; it = it.parentElement) { const colour = getComputedStyle(it).backgroundColor, parts = parse(colour); if (parts.length < 4 || parts[3] === 1) return colour; } return "rgb(255,255,255)"; };
    const poor = [];
    for (const element of document.querySelectorAll('body *')) {
        if (!element.offsetParent || ![...element.childNodes].some(it => it.nodeType === 3 && it.textContent.trim())) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x), contrast = (a + .05) / (b + .05);
        if (contrast < 4.5) poor.push(`${element.className} ${element.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
    }
    return poor;
"#;

/// Answers after `millis`, more or less, and now and then badly.
async fn busy(millis: u64, bad: f64) -> Server {
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(7));
    Server::http(answers_with(move |request| {
        let word = turn.fetch_add(0x9E37_79B9_7F4A_7C15, std::sync::atomic::Ordering::Relaxed);
        let lot = (word ^ (word >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11;
        let lot = lot as f64 / (1_u64 << 53) as f64;
        let status = if lot < bad && request.uri().path() != "/healthz" { 500 } else { 200 };
        async move {
            tokio::time::sleep(Duration::from_secs_f64(millis as f64 / 1e3 * (0.5 + lot))).await;
            Response::builder().status(status).body(Full::<Bytes>::from("hello")).unwrap()
        }
    }))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes pictures"]
async fn pictures() {
    let servers = [busy(4, 0.0).await, busy(6, 0.02).await, busy(9, 0.0).await, busy(5, 0.0).await, busy(3, 0.0).await];
    let [a, b, c, d, e] = servers.each_ref().map(Server::url);
    let gone = busy(5, 0.0).await;
    let dead = gone.url();
    let text = format!(
        "[server]\nzone = \"eu-1a\"\n[pools.web]\nstrategy = \"least_latency\"\nhealth = {{ path = \"/healthz\", interval = \"1s\", timeout = \"500ms\" }}\n\
         retry = {{ attempts = 3, budget = 1.0 }}\noutlier = {{ consecutive = 0, detector = \"off\" }}\n\
         backends = [{{ url = {a:?}, zone = \"eu-1a\" }}, {{ url = {b:?}, zone = \"eu-1a\" }}, {{ url = {dead:?}, zone = \"eu-1a\", weight = 2 }}, {{ url = {c:?}, zone = \"eu-1b\" }}]\n\
         [pools.cart]\nhealth = {{ path = \"/healthz\" }}\nstrategy = {{ name = \"maglev\", key = \"cookie:cart, address\" }}\nbackends = [{d:?}, {e:?}]\n\
         [[routes]]\npool = \"web\"\n[[routes]]\npath_prefix = \"/cart\"\npool = \"cart\""
    );
    let Some(desk) = Desk::open(&text).await else { return };
    desk.is_live().await;
    let load = (Load::on(&desk.gateway.url, 6), Load::on(&format!("{}/cart", desk.gateway.url), 2));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(desk.operator.post(&at("cart", &e, "/drain?deadline=5m")).await.status, 200);
    tokio::time::sleep(Duration::from_secs(12)).await;
    gone.kill().await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    desk.browser.run("document.querySelector('details').open = true; document.querySelector('.explain input').value = 'ann'; document.querySelector('.explain form').requestSubmit()").await;
    desk.browser.until("document.querySelector('.explain .verdict')").await;
    let folder = std::path::Path::new("examples/gateway/screenshots");
    std::fs::create_dir_all(folder).unwrap();
    for (name, width, height, scheme) in
        [("light", 1280, 800, "light"), ("dark", 1280, 800, "dark"), ("phone", 360, 740, "light")]
    {
        desk.browser.screen(width, height, width < 500).await;
        desk.browser.scheme(scheme).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let picture = desk.browser.screenshot().await;
        assert!(picture.starts_with(b"\x89PNG") && picture.len() < 150_000, "{name}: {} bytes", picture.len());
        std::fs::write(folder.join(name).with_extension("png"), picture).unwrap();
    }
    load.0.end().await;
    load.1.end().await;
}
