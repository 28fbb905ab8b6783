//! Sessions that stay on their backend, over real sockets.

mod common;

use bytes::Bytes;
use common::{Server, answers_with, client, says};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use std::time::Duration;
use tower::ServiceExt;
use tower_balancer::{
    BackendPool, ReverseProxy,
    http::SessionCookie,
    strategy::{RoundRobin, SessionSecret, Sticky},
};

/// Who answered, and the cookie that came along.
async fn ask(proxy: &Server, cookie: Option<&str>) -> (String, Option<String>) {
    let mut request = Request::get(proxy.url());
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let answer = client().oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let set = answer.headers().get(header::SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), set)
}

/// The name and the value, as a client sends them back.
fn kept(set: &str) -> &str {
    set.split(';').next().unwrap()
}

fn proxy_over(urls: &[String], secret: [u8; 16]) -> impl Future<Output = Server> + use<> {
    let pool = BackendPool::new(urls).unwrap();
    let secret = SessionSecret::new(secret);
    let proxy = ReverseProxy::builder(&pool)
        .strategy(Sticky::new(secret, RoundRobin::new()))
        .session(SessionCookie::new("lb", secret).unwrap());
    Server::http(proxy.build())
}

#[tokio::test]
async fn a_session_stays_on_its_backend_and_moves_when_that_is_gone() {
    let (a, b) = (Server::http(says("a")).await, Server::http(says("b")).await);
    let proxy = proxy_over(&[a.url(), b.url()], [7; 16]).await;

    let (first, set) = ask(&proxy, None).await;
    let set = set.unwrap();
    assert!(set.starts_with("lb=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    assert_eq!(first, "a");
    assert!(!set.contains("127.0.0.1"));
    for _ in 0..5 {
        assert_eq!(ask(&proxy, Some(&format!("theme=dark; {}", kept(&set)))).await, ("a".to_owned(), None));
    }
    // Others take turns meanwhile.
    assert_eq!(ask(&proxy, None).await.0, "b");

    a.kill().await;
    // The first request finds out; the next ones are served elsewhere, and told so.
    ask(&proxy, Some(kept(&set))).await;
    let (answered, moved) = ask(&proxy, Some(kept(&set))).await;
    assert_eq!(answered, "b");
    let moved = moved.unwrap();
    assert_ne!(kept(&moved), kept(&set));
    assert_eq!(ask(&proxy, Some(kept(&moved))).await, ("b".to_owned(), None));
}

#[tokio::test]
async fn whatever_is_no_token_of_ours_is_as_good_as_none() {
    let (a, b) = (Server::http(says("a")).await, Server::http(says("b")).await);
    let urls = [a.url(), b.url()];
    let (proxy, strange) = (proxy_over(&urls, [7; 16]).await, proxy_over(&urls, [8; 16]).await);
    let of_another_secret = ask(&strange, None).await.1.unwrap();
    let mut tampered = kept(&ask(&proxy, None).await.1.unwrap()).to_owned();
    let last = if tampered.pop() == Some('0') { '1' } else { '0' };
    tampered.push(last);
    let long = format!("lb={}", "0".repeat(4_000));
    let garbage = [kept(&of_another_secret), &tampered, &long, "lb", "lb=", ";;lb=\"", "lb=zz; lb", "=;=", "lb==="];
    let mut answers = Vec::new();
    for cookie in garbage {
        let (answered, set) = ask(&proxy, Some(cookie)).await;
        assert!(set.is_some_and(|set| set.starts_with("lb=")), "{cookie}");
        answers.push(answered);
    }
    // In turns, after the first request.
    assert!(answers.chunks(2).all(|pair| pair[0] == "b"), "{answers:?}");
}

#[tokio::test]
async fn backends_neither_see_the_cookie_nor_set_it() {
    let tells = answers_with(|request| async move {
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().map(|line| line.to_str().unwrap()).collect();
        let mut response = Response::new(Full::<Bytes>::from(cookies.join("|")));
        for set in ["lb=mine; Path=/", "lb = mine", "theme=dark"] {
            response.headers_mut().append("set-cookie", set.parse().unwrap());
        }
        response
    });
    let backend = Server::http(tells).await;
    let proxy = proxy_over(&[backend.url()], [7; 16]).await;
    let ask = |cookies: Vec<String>| {
        let mut request = Request::get(proxy.url()).body(Full::<Bytes>::default()).unwrap();
        for cookie in cookies {
            request.headers_mut().append("cookie", cookie.parse().unwrap());
        }
        async {
            let response = client().oneshot(request).await.unwrap();
            let set = response.headers().get_all("set-cookie").iter().map(|set| set.to_str().unwrap().to_owned());
            let set: Vec<_> = set.collect();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (String::from_utf8(body.to_vec()).unwrap(), set)
        }
    };
    let (seen, set) = ask(vec!["a=1".into(), "b=2; lbx=3".into()]).await;
    assert_eq!(seen, "a=1; b=2; lbx=3");
    assert_eq!(set[0], "theme=dark");
    assert!(set.len() == 2 && set[1].starts_with("lb=") && !set[1].starts_with("lb=mine"), "{set:?}");

    // Of several the last that is one of ours counts, and none of them goes on.
    let token = kept(&set[1]).to_owned();
    let (seen, set) = ask(vec![format!("lb=old; lb =other; a=1; {token}; lb= garbage"), "b=2".into()]).await;
    assert_eq!((seen.as_str(), set), ("a=1; b=2", vec!["theme=dark".to_owned()]));
    assert_eq!(ask(vec![token]).await.0, "");
}

#[tokio::test]
async fn a_backend_that_is_drained_keeps_its_sessions_and_gets_no_others() {
    let (a, b) = (Server::http(says("a")).await, Server::http(says("b")).await);
    for (grace, stays) in [(Duration::from_secs(60), "a"), (Duration::ZERO, "b")] {
        let pool = BackendPool::new([a.url(), b.url()]).unwrap();
        let secret = SessionSecret::new([7; 16]);
        let proxy = ReverseProxy::builder(&pool)
            .strategy(Sticky::new(secret, RoundRobin::new()).grace(grace))
            .session(SessionCookie::new("lb", secret).unwrap());
        let proxy = Server::http(proxy.build()).await;
        let (first, set) = ask(&proxy, None).await;
        assert_eq!(first, "a");
        let cookie = kept(&set.unwrap()).to_owned();
        pool.drain(&a.url()).unwrap();
        for _ in 0..3 {
            assert_eq!(ask(&proxy, Some(&cookie)).await.0, stays);
            assert_eq!(ask(&proxy, None).await.0, "b");
        }
        // Whoever is disabled keeps nobody.
        pool.disable(&a.url());
        assert_eq!(ask(&proxy, Some(&cookie)).await.0, "b");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_a_backends_sets_no_cookie() {
    let proxy = proxy_over(&[], [7; 16]).await;
    let (words, set) = ask(&proxy, None).await;
    assert!(!words.is_empty());
    assert_eq!(set, None);
}
