//! A list of backends in a file that people and deployments write, well and badly.

mod common;

use common::until;
use std::{fs, path::PathBuf, time::Duration};
use tokio::time::sleep;
use tower_balancer::{
    BackendPool, Discoverer,
    backend::{Backoff, Origin},
    discover::{FileSource, Guard},
    pool::Member,
};

const MS: Duration = Duration::from_millis(1);

/// A directory of its own, gone with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("discover-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

type Files = Discoverer<Origin, FileSource<Origin>>;

/// A pool that follows the file, a hundred times faster than usual.
fn follow(path: &PathBuf, guard: Guard) -> (BackendPool<Origin>, Files) {
    follow_by(FileSource::new(path).interval(MS * 10), guard)
}

fn follow_by(source: FileSource<Origin>, guard: Guard) -> (BackendPool<Origin>, Files) {
    let pool = BackendPool::empty();
    let backoff = Backoff { base: MS * 10, cap: MS * 10 };
    let discoverer = Discoverer::new(&pool, source).guard(guard).backoff(backoff);
    tokio::spawn(discoverer.run());
    (pool, discoverer)
}

fn there(pool: &BackendPool<Origin>) -> Vec<String> {
    pool.healthy().iter().map(|backend| backend.id().to_string()).collect()
}

/// Waits until these are in rotation, in this order.
async fn are_there(pool: &BackendPool<Origin>, expected: &[&str]) {
    until(|| async { there(pool) == expected }).await;
}

#[tokio::test]
async fn a_file_says_who_is_there_and_how_much_of_it() {
    let directory = Directory::new("says");
    let path = directory.file("backends.toml");
    fs::write(
        &path,
        r#"backends = ["http://a:1", { url = "HTTP://B:2/", weight = 2, zone = "eu-1a", priority = 1 }, "http://c:3"]"#,
    )
    .unwrap();
    let (pool, discoverer) = follow(&path, Guard::default());
    discoverer.ready().await;
    are_there(&pool, &["http://a:1", "http://b:2", "http://c:3"]).await;
    let b = pool.get("http://b:2").unwrap();
    assert_eq!((b.weight(), b.locality().priority, b.locality().zone.as_deref()), (2.0, 1, Some("eu-1a")));
    let version = discoverer.status().version;

    fs::write(&path, r#"backends = ["http://a:1", { url = "http://b:2", weight = 0.5, state = "draining" }]"#).unwrap();
    are_there(&pool, &["http://a:1"]).await;
    assert!(b.weight() == 0.5 && pool.get("http://b:2").is_some(), "it is drained and not gone");
    assert_ne!(discoverer.status().version, version);
}

#[tokio::test]
async fn what_is_broken_changes_nothing_and_is_told() {
    let directory = Directory::new("broken");
    let path = directory.file("backends.json");
    let (pool, discoverer) = follow(&path, Guard::off());
    until(|| async { discoverer.status().failures == 1 }).await;
    assert!(!discoverer.status().is_ready(), "there is no file yet");

    let whole = r#"["http://a:1", "http://b:2"]"#;
    fs::write(&path, whole).unwrap();
    are_there(&pool, &["http://a:1", "http://b:2"]).await;
    for broken in [r#"["http://a:1", "#, "", "null", "\u{0}"] {
        fs::write(&path, broken).unwrap();
        until(|| async { discoverer.status().failures > 0 }).await;
        // It is told once.
        sleep(MS * 100).await;
        assert_eq!((there(&pool).len(), discoverer.status().failures), (2, 1), "{broken}");
        fs::write(&path, whole).unwrap();
        until(|| async { discoverer.status().failures == 0 }).await;
    }
    fs::remove_file(&path).unwrap();
    until(|| async { discoverer.status().failures > 0 }).await;
    assert_eq!(there(&pool).len(), 2);
    fs::create_dir(&path).unwrap();
    until(|| async { &*discoverer.status().last_failure.unwrap().cause == "it is not a file" }).await;
    assert_eq!(there(&pool).len(), 2);
}

#[tokio::test]
async fn a_file_that_is_written_in_pieces_counts_when_it_is_whole() {
    let directory = Directory::new("pieces");
    let path = directory.file("backends.toml");
    let whole: String = (0..20).map(|port| format!("[[backends]]\nurl = \"http://a:{}\"\n", 1000 + port)).collect();
    fs::write(&path, &whole).unwrap();
    let (pool, discoverer) = follow_by(FileSource::new(&path).interval(MS * 100), Guard::off());
    discoverer.ready().await;
    let mut watch = pool.watch();
    // Every third piece would be a list by itself, of fewer. It takes many times as long as it takes to read it once.
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        sleep(MS * 2).await;
    }
    fs::write(&path, format!("{whole}[[backends]]\nurl = \"http://b:1\"\n")).unwrap();
    assert_eq!(watch.next().await, Some(tower_balancer::pool::Change::Added("http://b:1".into())));
    assert_eq!(there(&pool).len(), 21);
}

#[tokio::test]
async fn a_file_that_another_is_moved_onto_and_a_link_that_is_exchanged_are_followed() {
    let directory = Directory::new("moved");
    let (path, next) = (directory.file("backends.toml"), directory.file("next"));
    fs::write(&path, r#"backends = ["http://a:1", "http://b:2"]"#).unwrap();
    let (pool, _discoverer) = follow(&path, Guard::default());
    are_there(&pool, &["http://a:1", "http://b:2"]).await;
    fs::write(&next, r#"backends = ["http://a:1", "http://b:2", "http://c:3"]"#).unwrap();
    fs::rename(&next, &path).unwrap();
    are_there(&pool, &["http://a:1", "http://b:2", "http://c:3"]).await;

    // As Kubernetes mounts a ConfigMap.
    let real = directory.file("real");
    fs::write(&real, r#"backends = ["http://a:1", "http://b:2", "http://c:3", "http://d:4"]"#).unwrap();
    std::os::unix::fs::symlink(&real, &next).unwrap();
    fs::rename(&next, &path).unwrap();
    are_there(&pool, &["http://a:1", "http://b:2", "http://c:3", "http://d:4"]).await;
}

#[tokio::test]
async fn what_is_no_backend_is_left_out_and_named_by_its_line() {
    let directory = Directory::new("named");
    let path = directory.file("backends.toml");
    let text = "backends = [\n  \"http://a:1\",\n  \"a:2\",\n  { url = \"http://b:2\", weight = -1 },\n  \"http://A:1/\",\n]\n";
    fs::write(&path, text).unwrap();
    let (pool, discoverer) = follow(&path, Guard::default());
    discoverer.ready().await;
    assert_eq!(there(&pool), ["http://a:1"]);
    let skipped = discoverer.status().skipped;
    let expected = [
        "line 3: invalid backend URL \"a:2\": http:// is missing before it; expected http://host:port or https://host:port",
        "line 4: invalid weight -1: expected a finite number that is not negative",
        "http://a:1: listed more than once",
    ];
    assert_eq!(*skipped, expected);
}

#[tokio::test]
async fn an_empty_list_counts_when_it_is_read_a_second_time() {
    let directory = Directory::new("empty");
    let path = directory.file("backends.json");
    fs::write(&path, r#"{"backends": ["http://a:1", "http://b:2"]}"#).unwrap();
    let (pool, discoverer) = follow(&path, Guard::default().confirm_after(MS * 500));
    discoverer.ready().await;
    fs::write(&path, r#"{"backends": []}"#).unwrap();
    until(|| async { discoverer.status().doubted == 2 }).await;
    assert_eq!(there(&pool).len(), 2);
    are_there(&pool, &[]).await;
}

#[tokio::test]
async fn targets_can_be_anything_that_a_text_stands_for() {
    let directory = Directory::new("targets");
    let path = directory.file("shards.toml");
    fs::write(&path, r#"backends = ["127.0.0.1:5432", "nowhere"]"#).unwrap();
    let pool = BackendPool::from_members([]).unwrap();
    let source = FileSource::with(&path, |text| {
        let address: std::net::SocketAddr = text.parse().map_err(|_| format!("{text} is no address"))?;
        Ok(Member::new(text, address))
    });
    let discoverer = Discoverer::new(&pool, source);
    tokio::spawn(discoverer.run());
    discoverer.ready().await;
    assert_eq!(pool.members().iter().map(|(_, address)| address.port()).collect::<Vec<_>>(), [5432]);
    assert_eq!(*discoverer.status().skipped, ["line 1: nowhere is no address".to_owned()]);
}
