//! What a user notices when backends die, hang, lie and come back: real processes behind the real gateway, under load.

#[path = "common/chaos.rs"]
mod chaos;
mod common;

use chaos::{Answer, Backend, Load, Mode, be_a_backend_if_told, free_port};
use std::{
    collections::HashMap,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::sync::{Mutex, MutexGuard};

/// With these arguments this program runs nothing but the backend.
const ENTRY: [&str; 4] = ["--exact", "is_a_backend_where_it_was_started_as_one", "--nocapture", "--quiet"];

#[test]
fn is_a_backend_where_it_was_started_as_one() {
    be_a_backend_if_told();
}

/// One at a time: each wants the machine for itself.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Three backends behind a gateway as it is started by a first user.
struct Site {
    backends: Vec<Backend>,
    gateway: Child,
    address: SocketAddr,
}

impl Site {
    fn start() -> Self {
        let backends: Vec<_> = (0..3).map(|_| Backend::start(free_port(), &ENTRY)).collect();
        let binary: PathBuf = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/gateway");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let gateway = Command::new(binary)
            .args(["--listen", &address.to_string(), "--admin", "off", "--log", "off"])
            .args(backends.iter().flat_map(|backend| ["--backend".to_owned(), backend.url()]))
            .stdout(Stdio::null())
            .spawn()
            .expect("build it with `cargo build --example gateway`");
        let site = Self { backends, gateway, address };
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        site
    }

    fn load(&self, method: &'static str, seconds: u64) -> Load {
        Load { target: self.address, method, per_second: 200, connections: 8, length: Duration::from_secs(seconds) }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        _ = self.gateway.kill();
        _ = self.gateway.wait();
    }
}

/// Runs a load of GETs, and `disturb` after a second of it; none may fail.
async fn costs_no_request<F: Future<Output = Site>>(seconds: u64, disturb: impl FnOnce(Site) -> F) -> Vec<Answer> {
    let site = Site::start();
    let load = tokio::spawn(site.load("GET", seconds).run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _site = disturb(site).await;
    let answers = load.await.unwrap();
    let failed: Vec<_> = answers.iter().filter(|answer| !answer.well).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), answers.len());
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_killed_costs_no_request() {
    let _alone = alone().await;
    costs_no_request(4, |mut site| async {
        site.backends[1].kill();
        site
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_stopped_costs_no_request_and_little_of_the_load() {
    let _alone = alone().await;
    let answers = costs_no_request(6, |site| async {
        site.backends[1].signal("-STOP");
        tokio::time::sleep(Duration::from_secs(4)).await;
        site.backends[1].signal("-CONT");
        site
    })
    .await;
    let (from, to) = (Duration::from_secs(1), Duration::from_secs(5));
    let offered = answers.iter().filter(|answer| (from..to).contains(&answer.due)).count();
    let answered = answers.iter().filter(|answer| answer.due >= from && answer.done < to).count();
    assert!(answered * 100 >= offered * 95, "{answered} of {offered} answered while it was stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_fails_in_any_other_way_costs_no_request() {
    let _alone = alone().await;
    for mode in [Mode::Busy, Mode::Broken, Mode::Lying, Mode::Slow] {
        eprintln!("{mode:?}");
        costs_no_request(4, |mut site| async move {
            site.backends[1].set(mode);
            tokio::time::sleep(Duration::from_secs(2)).await;
            site.backends[1].set(Mode::Well);
            site
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_accepts_and_never_answers_costs_no_request() {
    let _alone = alone().await;
    costs_no_request(4, |mut site| async move {
        site.backends[1].set(Mode::Silent);
        tokio::time::sleep(Duration::from_secs(2)).await;
        // What it holds by then it will never answer.
        site.backends[1].kill();
        site
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_one_after_the_other_costs_no_request() {
    let _alone = alone().await;
    // After a restart a backend is back with the next health check, within five seconds.
    costs_no_request(18, |mut site| async {
        for backend in &mut site.backends {
            backend.restart(&ENTRY);
            tokio::time::sleep(Duration::from_millis(5_500)).await;
        }
        site
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_comes_and_goes_each_second_costs_no_request() {
    let _alone = alone().await;
    costs_no_request(9, |mut site| async {
        for _ in 0..4 {
            site.backends[1].kill();
            tokio::time::sleep(Duration::from_secs(1)).await;
            site.backends[1].restart(&ENTRY);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        site
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_post_is_ever_sent_twice() {
    let _alone = alone().await;
    let mut site = Site::start();
    let load = tokio::spawn(site.load("POST", 8).run());
    for mode in [Mode::Broken, Mode::Busy, Mode::Slow, Mode::Well] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        site.backends[0].set(mode);
        site.backends[1].restart(&ENTRY);
    }
    let answers = load.await.unwrap();
    let well = answers.iter().filter(|answer| answer.well).count();
    assert!(well * 10 > answers.len() * 9, "{well} of {}", answers.len());
    let mut seen = HashMap::<_, u32>::new();
    site.backends.iter().flat_map(Backend::posts).for_each(|id| *seen.entry(id).or_default() += 1);
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(seen.len() >= well && twice.is_empty(), "sent twice: {twice:?}");
}
