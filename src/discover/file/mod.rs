mod list;

use super::{Source, Update, entry::Target};
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::{error::BoxError, hash::hash_key, pool::Member};
use list::parse;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{fs, time::sleep};

/// A list of backends in a file: TOML, or JSON where the name ends in `.json`.
///
/// ```toml
/// backends = [
///     "http://10.0.0.1:8080",
///     { url = "http://10.0.0.2:8080", weight = 2, zone = "eu-1a", priority = 1 },
/// ]
///
/// [[backends]]  # one or the other
/// url = "http://10.0.0.3:8080"
/// state = "draining"
/// ```
///
/// JSON has the same list, in an object under `backends` or by itself.
///
/// The file is read every second, whatever it is: a mount, a link that is exchanged, a file that another was moved onto. What
/// it says counts when it says the same twice in a row. A file that cannot be read or parsed is a failure of the source, which
/// is told once, and the members stay; an entry that is none is left out, and named with its line. A list without entries is an empty one; a
/// file without a list is broken.
///
/// ```
/// use std::time::Duration;
/// use tower_balancer::{BackendPool, Discoverer, discover::FileSource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("backends-{}.toml", std::process::id()));
/// std::fs::write(&path, r#"backends = ["http://10.0.0.1:8080", "http://10.0.0.2:8080"]"#)?;
/// let pool = BackendPool::empty();
/// let discoverer = Discoverer::new(&pool, FileSource::new(&path).interval(Duration::from_secs(5)));
/// tokio::spawn(discoverer.run());
/// discoverer.ready().await;
/// assert_eq!(pool.backends().len(), 2);
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
pub struct FileSource<T> {
    path: PathBuf,
    target: Target<T>,
    interval: Duration,
    /// A hash of what was told last, or the failure.
    told: Option<Result<u64, String>>,
    /// A hash of what was read last.
    read: Option<u64>,
    /// Whether somebody waited already.
    is_due: bool,
}

/// A list that changes is changed by people or by deployments: a second more is nothing to them.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whoever writes a file in two goes does so within less.
const SETTLE: Duration = Duration::from_millis(100);

/// A hundred thousand backends, written at length. What is longer is something else.
const LONGEST: u64 = 16 << 20;

#[cfg(feature = "http")]
impl FileSource<Origin> {
    /// The HTTP backends in the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with(path, |url| Ok(Member::url(url)?))
    }
}

impl<T> FileSource<T> {
    /// The backends in the file at `path`, where `target` makes a member of what stands there as the URL. An entry for which
    /// it fails is left out.
    pub fn with(
        path: impl Into<PathBuf>,
        target: impl Fn(&str) -> Result<Member<T>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let target = Arc::new(target);
        Self { path: path.into(), target, interval: INTERVAL, told: None, read: None, is_due: true }
    }

    /// How often the file is read, by default every second; from 10 ms.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(10));
        self
    }

    /// Reads until what is there has settled.
    async fn read(&mut self) -> Result<(String, u64), BoxError> {
        loop {
            let bytes = read(&self.path).await?;
            let hash = hash_key(&bytes);
            if self.read.replace(hash) == Some(hash) {
                let text = String::from_utf8(bytes).map_err(|_| "it is not text in UTF-8")?;
                return Ok((text, hash));
            }
            sleep(SETTLE.min(self.interval)).await;
        }
    }

    async fn look(&mut self) -> Result<Update<T>, BoxError> {
        let (text, hash) = self.read().await?;
        if self.told == Some(Ok(hash)) {
            return Ok(Update::unchanged());
        }
        let is_json = self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let (mut endpoints, mut skipped) = (Vec::new(), Vec::new());
        for line in parse(&text, is_json)? {
            match line.entry.and_then(|entry| entry.endpoint(&self.target)) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(problem) => skipped.push(format!("line {}: {problem}", line.number)),
            }
        }
        self.told = Some(Ok(hash));
        Ok(Update::set(endpoints).skipped(skipped).version(format!("{hash:016x}")))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, BoxError> {
    let metadata = fs::metadata(path).await?;
    // What is no file may have no end.
    if !metadata.is_file() {
        return Err("it is not a file".into());
    }
    if metadata.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes").into());
    }
    Ok(fs::read(path).await?)
}

impl<T: Send + 'static> Source<T> for FileSource<T> {
    async fn next(&mut self) -> Option<Result<Update<T>, BoxError>> {
        loop {
            if !self.is_due {
                sleep(self.interval).await;
                self.is_due = true;
            }
            let update = self.look().await;
            self.is_due = false;
            // What is broken as it was is no news, and whoever repairs it shall not have to wait.
            match update.as_ref().err().map(|error| Some(Err(error.to_string()))) {
                Some(failure) if failure == self.told => {}
                Some(failure) => {
                    self.told = failure;
                    return Some(update);
                }
                None => return Some(update),
            }
        }
    }

    fn look_again(&mut self) -> bool {
        self.is_due = true;
        true
    }

    fn name(&self) -> String {
        format!("file {}", self.path.display())
    }
}

impl<T> fmt::Debug for FileSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).field("interval", &self.interval).finish_non_exhaustive()
    }
}
