//! What a client may take of the gateway, and what becomes of one that takes more.

#[path = "common/wire.rs"]
mod wire;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
};
use wire::{
    OK, Wire, credit::Credit, fired::Limit, frames::Frames, limits::Limits, patience::Patient, to_end, turns::Turns,
    until,
};

const SHORT: Duration = Duration::from_millis(100);

async fn nothing_in_flight(wire: &Wire) {
    so_many_in_flight(wire, 0).await;
}

async fn so_many_in_flight(wire: &Wire, requests: u32) {
    for _ in 0..1_000 {
        if wire.pool.backends()[0].load().in_flight() == requests {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", wire.pool.backends()[0].load());
}

/// A client of HTTP/2, and how its connection ends.
async fn http2(wire: &Wire) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let (client, connection) = h2::client::handshake(wire.connect().await).await.unwrap();
    (client, tokio::spawn(connection))
}

fn get(wire: &Wire) -> Request<()> {
    Request::get(format!("http://{}/", wire.front)).body(()).unwrap()
}

#[tokio::test]
async fn a_head_that_comes_slowly_or_not_at_all_ends_the_connection() {
    let wire = Wire::with(OK, Limits { head_time: SHORT, idle: SHORT, ..Limits::default() }, |proxy| proxy).await;
    for begins in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = wire.connect().await;
        stream.write_all(begins.as_bytes()).await.unwrap();
        assert!(!to_end(&mut stream).await.contains("HTTP"), "{begins:?}");
    }
    for begins in ["GET / HT", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        let answer = wire.send(begins).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nConnection: close\r\n"), "{answer:?}");
        // So is one of which an earlier request was answered.
        let answer = wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{begins}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("okHTTP/1.1 408 "), "{answer:?}");
        wire.seen();
    }
    // A byte now and then helps nobody.
    let mut stream = wire.connect().await;
    let (mut read, mut write) = stream.split();
    let dripping = async {
        while write.write_all(b"G").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::select! {
        () = dripping => {}
        ended = read.read_u8() => assert_eq!(ended.unwrap(), b'H'),
    }
    // Nor is one kept that has been answered and asks for nothing more.
    let mut stream = wire.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(to_end(&mut stream).await.ends_with("ok"));
    let seen = wire.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test]
async fn who_has_asked_in_time_is_answered_however_late_somebody_looks() {
    const IDLE: Duration = Duration::from_secs(60);
    let wire = Wire::with(OK, Limits { idle: IDLE, ..Limits::default() }, |proxy| proxy).await;
    for begins in ["", "GET / HTTP/1.1\r\n"] {
        let mut stream = wire.connect().await;
        stream.write_all(begins.as_bytes()).await.unwrap();
        tokio::time::sleep(SHORT).await;
        let whole = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(&whole.as_bytes()[begins.len()..]).await.unwrap();
        // It arrives while nobody here does anything.
        std::thread::sleep(SHORT);
        tokio::time::pause();
        tokio::time::advance(IDLE * 2).await;
        tokio::time::resume();
        assert!(to_end(&mut stream).await.ends_with("ok"), "{begins:?}");
    }
}

#[tokio::test]
async fn a_body_that_stands_still_ends_the_connection_and_a_slow_backend_does_not() {
    let slow = |mut stream: TcpStream| async move {
        while let Some(request) = wire::request(&mut stream).await {
            tokio::time::sleep(SHORT * 3).await;
            _ = stream.write_all(if request.ends_with("hello") { OK } else { "?" }.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits { stall: SHORT, ..Limits::default() }, slow).await;
    for body in ["Content-Length: 5\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"] {
        let mut stream = wire.connect().await;
        stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).await.unwrap();
        let answer = to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nconnection: close\r\n"), "{answer:?}");
        nothing_in_flight(&wire).await;
    }
    let mut stream = wire.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
    assert!(until(&mut stream, "ok").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn who_is_refused_in_the_middle_of_a_request_hears_it_to_the_end() {
    let wire = Wire::with(OK, Limits::default(), |proxy| proxy).await;
    for (begins, status) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 100000000\r\n\r\n", 417),
        ("POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: ", 431),
        ("GET /", 414),
    ] {
        let mut stream = wire.connect().await;
        stream.write_all(begins.as_bytes()).await.unwrap();
        let mut sent = io::Result::Ok(());
        for _ in 0..10 {
            sent = sent.and(stream.write_all(&[b'x'; 32 * 1024]).await);
            tokio::time::sleep(SHORT / 10).await;
        }
        let mut answer = String::new();
        let heard = stream.read_to_string(&mut answer).await;
        assert!(sent.is_ok() && heard.is_ok(), "{sent:?} {heard:?} {answer}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{begins:?} {answer}");
    }
    assert_eq!(wire.seen(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_after_that_is_not_listened_to_for_long() {
    for (piece, pause) in [(65_536, Duration::ZERO), (1, SHORT)] {
        let (mut client, server) = duplex(65_536);
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await.unwrap();
        let mut server = patient(server);
        let mut head = [0; 1_024];
        _ = server.read(&mut head).await.unwrap();
        let sending = async {
            let mut sent = 0;
            while client.write_all(&vec![b'x'; piece]).await.is_ok() {
                sent += piece;
                tokio::time::sleep(pause).await;
            }
            sent
        };
        let began = tokio::time::Instant::now();
        let closing = async {
            server.shutdown().await.unwrap();
            drop(server);
        };
        let (sent, ()) = tokio::join!(sending, closing);
        assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
        assert!((5..8 << 20).contains(&sent), "{sent}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_loses_it() {
    let endless = |mut stream: TcpStream| async move {
        if wire::request(&mut stream).await.is_some() {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        }
    };
    let wire = Wire::handling(Limits { stall: SHORT, ..Limits::default() }, endless).await;
    let mut stream = wire.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    nothing_in_flight(&wire).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_client_does_not_take_its_backend_need_not_send() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = move |mut stream: TcpStream| {
        let sent = Arc::clone(&counted);
        async move {
            // What the kernel keeps on the way to us is the backend's.
            socket2::SockRef::from(&stream).set_send_buffer_size(64 * 1024).unwrap();
            if wire::request(&mut stream).await.is_some() {
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
                while stream.write_all(&[b'x'; 4_096]).await.is_ok() {
                    sent.fetch_add(4_096, Ordering::Relaxed);
                }
            }
        }
    };
    let wire = Wire::handling(Limits::default(), endless).await;
    let mut stream = wire.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    let (mut before, mut now) = (usize::MAX, 0);
    while before != now {
        before = now;
        tokio::time::sleep(SHORT * 3).await;
        now = sent.load(Ordering::Relaxed);
    }
    // Of what it may send to a client at once alone, the kernel would keep four times as much.
    assert!(now < 2 << 20, "{now} bytes");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_another_has_its_place_later() {
    let wire = Wire::with(OK, Limits { connections: 1, ..Limits::default() }, |proxy| proxy).await;
    let mut first = wire.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut first, "ok").await;
    let answer = wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 1"), "{answer:?}");
    assert_eq!(wire.seen().len(), 1);
    drop(first);
    for _ in 0..1_000 {
        let answer = wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 200 ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the place was never free again");
}

#[tokio::test]
async fn a_client_that_only_resets_is_cut_off_and_one_that_resets_now_and_then_is_not() {
    let wire = Wire::with(OK, Limits { abandoned: 20, ..Limits::default() }, |proxy| proxy).await;
    let (client, connection) = http2(&wire).await;
    let mut client = client.ready().await.unwrap();
    // Half of them are answered.
    for _ in 0..100 {
        drop(client.send_request(get(&wire), true).unwrap());
        let (answer, _) = client.send_request(get(&wire), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        client = client.ready().await.unwrap();
    }
    drop(client);
    connection.await.unwrap().unwrap();

    // Slow enough that each is begun before it is given up, so that nothing waits to be accepted.
    let silent = |mut stream: TcpStream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    let limits = Limits { abandoned: 20, pending_resets: 1_000, ..Limits::default() };
    let wire = Wire::handling(limits, silent).await;
    let (client, connection) = http2(&wire).await;
    let mut client = client.ready().await.unwrap();
    let mut begun = 0;
    let cut = loop {
        let Ok((answer, _)) = client.send_request(get(&wire), true) else { break begun };
        begun += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
        drop(answer);
        match client.ready().await {
            Ok(ready) => client = ready,
            Err(_) => break begun,
        }
        assert!(begun < 2_000, "nobody minds");
    };
    assert!(cut > 20, "cut off after {cut}");
    _ = connection.await;
    assert_eq!(wire.fired.count(Limit::Abandoned), 1);
    nothing_in_flight(&wire).await;
}

#[tokio::test]
async fn resets_that_come_faster_than_requests_are_looked_at_end_the_connection() {
    let wire = Wire::with(OK, Limits::default(), |proxy| proxy).await;
    let mut stream = wire.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // GET http / of a, all in one block, and its end at once.
    let asks_and_resets = |stream: u8| {
        let asks = [&[0, 0, 6, 1, 5, 0, 0, 0, stream][..], &[0x82, 0x86, 0x84, 0x41, 1, b'a']].concat();
        [asks, vec![0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8]].concat()
    };
    let rapid: Vec<u8> = (0..100).flat_map(|n| asks_and_resets(2 * n + 1)).collect();
    stream.write_all(&rapid).await.unwrap();
    let mut end = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut end)).await.expect("nobody minds").ok();
    // A GOAWAY with ENHANCE_YOUR_CALM.
    assert!(end.windows(17).any(|frame| frame[3] == 7 && frame[13..] == [0, 0, 0, 11]), "{end:?}");
    assert_eq!(counted(&wire), [Limit::Flood]);
}

/// What was counted, and each of that once.
fn counted(wire: &Wire) -> Vec<Limit> {
    Limit::ALL.into_iter().flat_map(|limit| (0..wire.fired.count(limit)).map(move |_| limit)).collect()
}

#[tokio::test]
async fn whatever_ends_a_connection_over_http2_is_counted_as_a_flood() {
    // A head that never ends.
    let endless = [&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82][..], &[0, 0, 0, 9, 0, 0, 0, 0, 1].repeat(2_000)].concat();
    // Streams that we have to reset: their windows grow too large (CVE-2025-8671).
    let provokes = |stream: u8| {
        let asks = [&[0, 0, 6, 1, 4, 0, 0, 0, stream][..], &[0x82, 0x86, 0x84, 0x41, 1, b'a']].concat();
        [asks, vec![0, 0, 4, 8, 0, 0, 0, 0, stream, 0x7f, 0xff, 0xff, 0xff]].concat()
    };
    let provoked = (0..120).flat_map(|n| provokes(2 * n + 1)).collect();
    // More at a time than there may be: each is refused, which is no more than another reset that was asked for.
    let refused = (0..120).flat_map(|n| frame(1, 4, 2 * n + 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a'])).collect();
    // A field of two kilobytes that is named again and again by a byte: more than four times what may be.
    let field = [&[0x82, 0x86, 0x84, 0x41, 1, b'a', 0x40, 1, b'x', 0x7f, 0x81, 0x0f][..], &[b'x'; 2_048]].concat();
    let bomb = [&[0, 9, 0, 1, 4, 0, 0, 0, 1][..], &field, &vec![0xbe; 9 * 256 - field.len()]].concat();
    for frames in [endless, provoked, refused, bomb] {
        let limits = Limits { pending_resets: 1_000, provoked_resets: 50, streams: 10, ..Limits::default() };
        let wire = Wire::with(OK, limits, |proxy| proxy).await;
        let mut stream = wire.connect().await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        _ = stream.write_all(&frames).await;
        let mut end = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut end)).await.expect("nobody minds").ok();
        assert_eq!((counted(&wire), wire.fired.malformed()), (vec![Limit::Flood], 0));
    }
    // A frame that is none.
    let wire = Wire::with(OK, Limits::default(), |proxy| proxy).await;
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x08\0\0\0\0\0\0").await;
    assert_eq!((counted(&wire), wire.fired.malformed()), (vec![], 1));
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame on this stream.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Sends `opening` and then `again` up to `times`, as fast as it is taken, and tells how often. What comes back is read.
async fn flood(wire: &Wire, opening: &[u8], again: &[u8], times: usize) -> usize {
    let (mut read, mut write) = wire.connect().await.into_split();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    write.write_all(&[PREFACE, opening].concat()).await.unwrap();
    let mut sent = 0;
    while sent < times && !reading.is_finished() && write.write_all(again).await.is_ok() {
        sent += 1;
    }
    reading.abort();
    sent
}

#[tokio::test]
async fn frames_that_bring_nothing_end_the_connection() {
    let wire = Wire::with(OK, Limits::default(), |proxy| proxy).await;
    // POST http / of a, and no end of it.
    let upload = frame(1, 4, 1, &[0x83, 0x86, 0x84, 0x41, 1, b'a']);
    for (name, opening, again) in [
        ("pings", &[][..], frame(6, 0, 0, &[0; 8])),
        ("settings", &[], frame(4, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("priorities", &[], frame(2, 0, 3, &[0, 0, 0, 1, 1])),
        ("a little more window", &[], frame(8, 0, 0, &[0, 0, 0, 1])),
        ("frames that nobody knows", &[], frame(0x99, 0, 0, &[1, 2, 3])),
        ("empty data", &upload, frame(0, 0, 1, &[])),
    ] {
        // Ten at a time, and what lies in the buffers between has been sent in vain.
        let sent = flood(&wire, opening, &again.repeat(10), 1_000_000).await;
        assert!((100..1_000_000).contains(&sent), "{name}: {sent}0 were sent");
    }
    nothing_in_flight(&wire).await;
}

#[tokio::test]
async fn frames_that_something_comes_of_do_not() {
    let wire = Wire::with(OK, Limits { empty_frames: 20, ..Limits::default() }, |proxy| proxy).await;
    let (mut client, _connection) = http2(&wire).await;
    // A frame of a few bytes of content pays for what a client says of its window, and for some pings.
    let post = Request::post(format!("http://{}/", wire.front)).body(()).unwrap();
    let (answer, mut upload) = client.send_request(post, false).unwrap();
    for _ in 0..2_000 {
        upload.send_data(Bytes::from_static(b"a few bytes"), false).unwrap();
        tokio::task::yield_now().await;
    }
    upload.send_data(Bytes::new(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    for _ in 0..200 {
        client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(get(&wire), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_now_and_then_is_never_too_much() {
    let mut frames = Frames::new(10);
    frames.read(PREFACE).unwrap();
    for _ in 0..1_000 {
        frames.read(&frame(6, 0, 0, &[0; 8])).unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    let at_once = (0..100).take_while(|_| frames.read(&frame(6, 0, 0, &[0; 8])).is_ok()).count();
    assert!(at_once < 20, "{at_once}");
}

#[tokio::test]
async fn a_window_is_opened_for_what_was_sent_and_else_for_nothing() {
    let window = frame(8, 0, 0, &[0, 0, 0, 1]);
    let mut frames = Frames::new(100);
    frames.read(PREFACE).unwrap();
    // Two for each frame, of a byte of content.
    for _ in 0..100_000 {
        frames.wrote(10);
        frames.read(&window).unwrap();
        frames.read(&window).unwrap();
    }
    let in_vain = (0..).take_while(|_| frames.read(&window).is_ok()).count();
    assert_eq!(in_vain, 100);
    // Nor is it saved up without end.
    let mut frames = Frames::new(100);
    frames.read(PREFACE).unwrap();
    frames.wrote(1 << 30);
    let saved = (0..).take_while(|_| frames.read(&window).is_ok()).count();
    assert_eq!(saved, (1 << 20) / 5 + 100);
}

#[tokio::test]
async fn how_frames_are_cut_makes_no_difference() {
    // Settings, content, a ping, nothing, an end.
    let ping = frame(6, 0, 0, &[0; 8]);
    let bytes = [PREFACE, &frame(0, 0, 1, &[6; 200]), &ping, &frame(0, 0, 1, &[]), &frame(0, 1, 1, &[])].concat();
    for size in 1..bytes.len() {
        // Two that bring nothing may be owed, and there are two; a third is too much.
        let mut frames = Frames::new(2);
        bytes.chunks(size).for_each(|piece| frames.read(piece).unwrap());
        assert!(frames.read(&ping).is_err(), "pieces of {size}");
    }
    // HTTP/1.1 is none of its business.
    let mut frames = Frames::new(0);
    frames.read(b"PRI * HTTP/1.1\r\n").unwrap();
    frames.read(&ping.repeat(100)).unwrap();
}

#[tokio::test]
async fn a_header_list_that_is_too_large_is_refused_alone() {
    let wire = Wire::with(OK, Limits { head_bytes: 16_384, ..Limits::default() }, |proxy| proxy).await;
    let (client, _connection) = http2(&wire).await;
    let mut client = client.ready().await.unwrap();
    let mut large = get(&wire);
    large.headers_mut().insert("x", "x".repeat(17_000).parse().unwrap());
    let (answer, _) = client.send_request(large, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 431);
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(get(&wire), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn over_http2_too_many_header_lines_are_refused_and_cookies_are_none() {
    let limits = Limits { headers: 10, abandoned: 20, ..Limits::default() };
    let fired = limits.fired.clone();
    let wire = Wire::with(OK, limits, |proxy| proxy).await;
    let (mut client, _connection) = http2(&wire).await;
    let mut status = async |name: &'static str, lines: usize| {
        let mut request = get(&wire);
        (0..lines).for_each(|_| _ = request.headers_mut().append(name, "1".parse().unwrap()));
        client = client.clone().ready().await?;
        let (answer, _) = client.send_request(request, true)?;
        Ok::<_, h2::Error>(answer.await?.status().as_u16())
    };
    assert_eq!(status("cookie", 50).await.unwrap(), 200);
    assert_eq!(status("x", 10).await.unwrap(), 200);
    assert_eq!(status("x", 11).await.unwrap(), 431);
    assert_eq!(fired.count(Limit::Headers), 1);
    assert_eq!(status("x", 1).await.unwrap(), 200);
    // Who asks for nothing else is cut off.
    let refused = async {
        while let Ok(status) = status("x", 11).await {
            assert_eq!(status, 431);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(fired.count(Limit::Abandoned), 1);
}

#[tokio::test]
async fn a_connection_over_http2_without_requests_is_asked_to_end_and_finishes_what_it_does() {
    let slow = |mut stream: TcpStream| async move {
        while wire::request(&mut stream).await.is_some() {
            tokio::time::sleep(SHORT * 5).await;
            _ = stream.write_all(OK.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits { idle: SHORT, ..Limits::default() }, slow).await;
    let (client, connection) = http2(&wire).await;
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(get(&wire), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // It has been told meanwhile; what was under way is answered, and that is the end.
    tokio::time::timeout(Duration::from_secs(10), connection).await.expect("it is still open").unwrap().unwrap();
    // So is one that never asked for anything.
    let (_client, connection) = http2(&wire).await;
    tokio::time::timeout(Duration::from_secs(10), connection).await.expect("it is still open").unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_client_over_http2_is_asked_for_a_sign_of_life() {
    let limits = Limits { ping_after: SHORT, ping_time: SHORT, ..Limits::default() };
    let wire = Wire::with(OK, limits, |proxy| proxy).await;
    let mut stream = wire.connect().await;
    // The preface and empty settings, and then nothing, not even an answer to pings.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    to_end(&mut stream).await;
    assert_eq!(wire.fired.count(Limit::Ping), 1);
}

#[tokio::test]
async fn a_head_over_http2_that_never_ends_ends_the_connection() {
    let limits = Limits { ping_after: SHORT, ping_time: SHORT, idle: SHORT, ..Limits::default() };
    let wire = Wire::with(OK, limits, |proxy| proxy).await;
    // GET http / of a, and then a field a letter at a time.
    for fields in [&[][..], &[0, 1, b'x', 0x7f, 0]] {
        let (mut read, mut write) = wire.connect().await.into_split();
        let opening = [PREFACE, &frame(1, 1, 1, &[&[0x82, 0x86, 0x84, 0x41, 1, b'a'], fields].concat())].concat();
        write.write_all(&opening).await.unwrap();
        let dripping = async {
            while write.write_all(&frame(9, 0, 1, b"x")).await.is_ok() {
                tokio::time::sleep(SHORT / 5).await;
            }
        };
        let ended = async { tokio::io::copy(&mut read, &mut tokio::io::sink()).await };
        let either = async {
            tokio::select! { () = dripping => {}, _ = ended => {} }
        };
        tokio::time::timeout(Duration::from_secs(10), either).await.expect("nobody minds");
    }
    assert_eq!(wire.seen(), [""; 0]);
}

#[tokio::test]
async fn a_body_over_http2_that_stands_still_ends_its_stream_and_no_other() {
    let slow = |mut stream: TcpStream| async move {
        while wire::request(&mut stream).await.is_some() {
            tokio::time::sleep(SHORT * 3).await;
            _ = stream.write_all(OK.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits { stall: SHORT, ..Limits::default() }, slow).await;
    let (mut client, _connection) = http2(&wire).await;
    let post = || Request::post(format!("http://{}/", wire.front)).body(()).unwrap();
    let (stalled, mut upload) = client.send_request(post(), false).unwrap();
    upload.send_data(Bytes::from_static(b"hel"), false).unwrap();
    nothing_in_flight_after_some(&wire).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), stalled).await.expect("nobody minds");
    assert_eq!(answer.unwrap().status(), 408);
    // One that is whole may wait for a slow backend.
    let mut client = client.ready().await.unwrap();
    let (answer, mut upload) = client.send_request(post(), false).unwrap();
    upload.send_data(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_over_http2_of_which_nothing_is_taken_is_given_up() {
    let endless = |mut stream: TcpStream| async move {
        if wire::request(&mut stream).await.is_some() {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        }
    };
    let wire = Wire::handling(Limits { stall: SHORT, ..Limits::default() }, endless).await;
    let (mut client, _connection) = http2(&wire).await;
    let (answer, _) = client.send_request(get(&wire), true).unwrap();
    // Its window is never opened again.
    let answer = answer.await.unwrap();
    nothing_in_flight_after_some(&wire).await;
    drop(answer);
}

#[tokio::test]
async fn an_answer_over_http2_of_which_nothing_is_taken_keeps_no_place() {
    let endless = |mut stream: TcpStream| async move {
        if wire::request(&mut stream).await.is_some() {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        }
    };
    let wire = Wire::handling(Limits { stall: SHORT, idle: SHORT * 2, ..Limits::default() }, endless).await;
    let (mut client, connection) = http2(&wire).await;
    let (answer, _) = client.send_request(get(&wire), true).unwrap();
    let _answer = answer.await.unwrap();
    // It says that it is there, whenever it is asked, and takes nothing.
    _ = tokio::time::timeout(Duration::from_secs(10), connection).await.expect("it is still open");
}

#[tokio::test]
async fn an_upload_over_http2_that_its_backend_does_not_read_keeps_no_other_from_its_own() {
    const MUCH: usize = 200_000;
    let picky = |mut stream: TcpStream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        if head.starts_with(b"POST /stuck") {
            std::future::pending::<()>().await;
        }
        let mut body = vec![0; MUCH];
        _ = stream.read_exact(&mut body).await;
        _ = stream.write_all(OK.as_bytes()).await;
    };
    let wire = Wire::handling(Limits::default(), picky).await;
    let (client, _connection) = http2(&wire).await;
    let post = |path: &str| Request::post(format!("http://{}{path}", wire.front)).header("content-length", MUCH);
    let stuck = Request::post(format!("http://{}/stuck", wire.front)).body(()).unwrap();
    let (_answer, mut upload) = client.clone().ready().await.unwrap().send_request(stuck, false).unwrap();
    // Until there is no room for more anywhere.
    let room = async |upload: &mut h2::SendStream<Bytes>| {
        upload.reserve_capacity(65_536);
        let room = std::future::poll_fn(|cx| upload.poll_capacity(cx));
        tokio::time::timeout(Duration::from_millis(500), room).await.ok().map(|room| room.unwrap().unwrap())
    };
    while let Some(room) = room(&mut upload).await {
        upload.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
    }
    let (answer, mut upload) =
        client.clone().ready().await.unwrap().send_request(post("/").body(()).unwrap(), false).unwrap();
    upload.send_data(Bytes::from(vec![b'x'; MUCH]), true).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.expect("it waits for the other");
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_that_wait_for_their_answers_are_not_given_up() {
    let slow = |mut stream: TcpStream| async move {
        while wire::request(&mut stream).await.is_some() {
            tokio::time::sleep(SHORT * 3).await;
            _ = stream.write_all(OK.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits { abandoned: 20, ..Limits::default() }, slow).await;
    let (client, _connection) = http2(&wire).await;
    let mut answers = Vec::new();
    for _ in 0..60 {
        answers.push(client.clone().ready().await.unwrap().send_request(get(&wire), true).unwrap().0);
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    assert_eq!(wire.fired.count(Limit::Abandoned), 0);
}

async fn nothing_in_flight_after_some(wire: &Wire) {
    so_many_in_flight(wire, 1).await;
    nothing_in_flight(wire).await;
}

#[tokio::test]
async fn a_short_head_is_a_beginning() {
    let wire = Wire::with(OK, Limits { head_time: SHORT * 3, ..Limits::default() }, |proxy| proxy).await;
    let mut stream = wire.connect().await;
    tokio::time::sleep(SHORT * 2).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut stream, "ok").await;
    // It is kept for as long as any that was answered.
    tokio::time::sleep(SHORT * 2).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut stream, "ok").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_written_and_goes_no_further_ends_the_connection() {
    /// As TLS to a client that takes nothing: it keeps what is written, and cannot get rid of it.
    struct Full;
    impl AsyncRead for Full {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
    impl AsyncWrite for Full {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
    let patient = || {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Patient::new(Full, &Limits::default(), turns(), place)
    };
    let mut stream = patient();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let within = Limits::default().stall * 2;
    let flushed = tokio::time::timeout(within, stream.flush()).await.expect("nobody minds");
    assert_eq!(flushed.unwrap_err().kind(), io::ErrorKind::TimedOut);
    let shut = tokio::time::timeout(within, patient().shutdown()).await.expect("nobody minds");
    assert_eq!(shut.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

// ---- those who are slow

#[test]
fn credit_lasts_for_ever_at_the_rate_and_not_below_it() {
    const PAUSE: Duration = Duration::from_secs(1);
    let minute = Duration::from_secs(60);
    // Seconds until nothing is left, with so many bytes in each; for an hour at the most.
    let lasts = |mut credit: Credit, bytes| {
        let spend = |second: &u32| {
            let over = credit.left() <= PAUSE;
            credit.spend(PAUSE, bytes);
            over || *second == 3_600
        };
        (0..).find(spend).unwrap()
    };
    for (rate, bytes, seconds) in
        [(240, 0, 59), (240, 1, 60), (240, 120, 118), (240, 240, 3_600), (0, 1, 3_600), (0, 0, 59)]
    {
        let lasted = lasts(Credit::new(minute, rate), bytes);
        assert_eq!(lasted, seconds, "{bytes} bytes a second of {rate}");
    }
    // What comes in bursts counts for the time after it, but not for more than there was in the beginning.
    let mut credit = Credit::new(minute, 240);
    credit.spend(minute / 2, 1_000_000);
    assert_eq!(credit.left(), minute);
    credit.spend(minute / 2, 0);
    assert_eq!(credit.left(), minute / 2);
}

fn turns() -> Turns {
    let (turns, taken) = Turns::new();
    tokio::spawn(taken);
    turns
}

fn patient<I>(stream: I) -> Patient<I> {
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    Patient::new(stream, &Limits::default(), turns(), place)
}

/// After how many seconds a client is given up that moves so many bytes in each, if it is within an hour.
async fn patience_with<F: Future<Output = io::Result<()>>>(moving: F) -> Option<u64> {
    let began = tokio::time::Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(3_600), moving).await.ok()?;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    Some(began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn an_upload_may_be_slow_and_steady_and_may_not_drip() {
    for (bytes, given_up) in [(0, Some(60)), (1, Some(60)), (120, Some(119)), (240, None), (1_000, None)] {
        let (mut client, server) = duplex(65_536);
        let mut server = patient(server);
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await.unwrap();
        let sending = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                client.write_all(&vec![b'x'; bytes]).await?;
            }
        };
        let reading = async {
            let mut read = vec![0; 65_536];
            while server.read(&mut read).await? > 0 {}
            io::Result::Ok(())
        };
        let moving = async {
            tokio::select! { sent = sending => sent, read = reading => read }
        };
        assert_eq!(patience_with(moving).await, given_up, "{bytes} bytes a second");
    }
}

#[tokio::test(start_paused = true)]
async fn each_body_has_its_own_time() {
    let (mut client, server) = duplex(65_536);
    let mut server = patient(server);
    let sending = async {
        // Each takes half of what there is, and earns nothing to speak of.
        loop {
            client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx").await?;
            tokio::time::sleep(Duration::from_secs(30)).await;
            client.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let reading = async {
        let mut read = vec![0; 65_536];
        while server.read(&mut read).await? > 0 {}
        io::Result::Ok(())
    };
    let moving = async {
        tokio::select! { sent = sending => sent, read = reading => read }
    };
    assert_eq!(patience_with(moving).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_taken_slowly_and_not_drop_by_drop() {
    for (bytes, given_up) in [(0, Some(60)), (1, Some(60)), (120, Some(119)), (240, None), (1_000, None)] {
        let (mut client, server) = duplex(16);
        let mut server = patient(server);
        let taking = async {
            let mut taken = vec![0; bytes];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                client.read_exact(&mut taken).await?;
            }
        };
        let writing = async {
            loop {
                server.write_all(&[b'x'; 8_192]).await?;
            }
        };
        let moving = async {
            tokio::select! { taken = taking => taken, written = writing => written }
        };
        assert_eq!(patience_with(moving).await, given_up, "{bytes} bytes a second");
    }
}

#[tokio::test]
async fn an_upload_over_http2_that_drips_is_given_up_unless_it_is_a_talk() {
    let limits = Limits { stall: SHORT * 5, min_rate: 1_000, ..Limits::default() };
    let wire = Wire::with(OK, limits, |proxy| proxy).await;
    let (client, _connection) = http2(&wire).await;
    let upload = async |kind: &str, piece: usize| {
        let request = Request::post(format!("http://{}/", wire.front)).header("content-type", kind).body(()).unwrap();
        let (answer, mut upload) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
        for _ in 0..75 {
            upload.reserve_capacity(piece);
            if upload.send_data(Bytes::from(vec![b'x'; piece]), false).is_err() {
                break;
            }
            tokio::time::sleep(SHORT / 5).await;
        }
        _ = upload.send_data(Bytes::new(), true);
        answer.await.is_ok_and(|answer| answer.status() == 200)
    };
    let (drips, steady, talk) =
        tokio::join!(upload("text/plain", 1), upload("text/plain", 200), upload("application/grpc", 1));
    assert!(!drips && steady && talk, "drips {drips}, steady {steady}, talk {talk}");
}

#[tokio::test]
async fn an_upload_over_http2_in_bursts_of_small_pieces_is_as_fast_as_all_of_them() {
    let limits = Limits { stall: SHORT * 5, min_rate: 1_000, ..Limits::default() };
    let wire = Wire::with(OK, limits, |proxy| proxy).await;
    let (client, _connection) = http2(&wire).await;
    let request = Request::post(format!("http://{}/", wire.front)).body(()).unwrap();
    let (answer, mut upload) = client.ready().await.unwrap().send_request(request, false).unwrap();
    for _ in 0..15 {
        for _ in 0..100 {
            upload.send_data(Bytes::from_static(b"ten bytes!"), false).unwrap();
        }
        tokio::time::sleep(SHORT).await;
    }
    upload.send_data(Bytes::new(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_over_http2_that_is_taken_drop_by_drop_is_given_up() {
    let long = |mut stream: TcpStream| async move {
        if wire::request(&mut stream).await.is_some() {
            // In small pieces, of which none is waited for for long.
            let piece = format!("40\r\n{}\r\n", "x".repeat(64));
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            _ = stream.write_all(format!("{}0\r\n\r\n", piece.repeat(500)).as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits { stall: SHORT * 3, min_rate: 50_000, ..Limits::default() }, long).await;
    let taken = async |pause: Duration| {
        let client = h2::client::Builder::new().initial_window_size(64).handshake(wire.connect().await).await;
        let (mut client, connection): (SendRequest<Bytes>, _) = client.unwrap();
        let connection = tokio::spawn(connection);
        let (answer, _) = client.send_request(get(&wire), true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let mut taken = 0;
        while let Some(Ok(data)) = body.data().await {
            taken += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
            tokio::time::sleep(pause).await;
        }
        connection.abort();
        taken
    };
    assert!(taken(SHORT / 5).await < 32_000, "nobody minds");
    nothing_in_flight(&wire).await;
}

// ---- those who stay

#[tokio::test]
async fn a_client_over_http2_that_is_asked_to_go_and_stays_is_put_out() {
    let wire = Wire::with(OK, Limits { idle: SHORT, ..Limits::default() }, |proxy| proxy).await;
    let mut stream = wire.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // It answers nothing of what it is told, and would be asked for a sign of life only later.
    to_end(&mut stream).await;
}

#[tokio::test]
async fn only_so_many_are_told_that_there_is_no_place() {
    let wire = Wire::with(OK, Limits { connections: 0, ..Limits::default() }, |proxy| proxy).await;
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(wire.connect().await);
    }
    let mut told = 0;
    for stream in &mut held {
        let mut word = [0; 12];
        told += usize::from(stream.read_exact(&mut word).await.is_ok_and(|_| word.ends_with(b"503")));
    }
    assert!((256..400).contains(&told), "{told}");
}

#[tokio::test]
async fn who_has_much_to_say_is_answered_meanwhile() {
    let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    let (mut client, server) = duplex(1 << 20);
    client.write_all(PREFACE).await.unwrap();
    client.write_all(&frame(0, 0, 1, &[b'x'; 16_000]).repeat(20)).await.unwrap();
    let mut server = Patient::new(server, &Limits::default(), turns(), place);
    let answered = tokio::spawn(std::future::poll_fn(move |cx| {
        let (mut bytes, mut read) = ([0; 16 * 1024], 0);
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            if Pin::new(&mut server).poll_read(cx, &mut buf)?.is_pending() {
                break;
            }
            read += buf.filled().len();
        }
        assert!((1..64 * 1024).contains(&read), "{read} bytes in a turn");
        let written = Pin::new(&mut server).poll_write(cx, b"pong");
        Poll::Ready(io::Result::Ok(written.map_ok(|_| ())))
    }));
    assert!(answered.await.unwrap().unwrap().is_ready());
}
