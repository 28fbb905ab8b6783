use super::EtcdConfig;
use crate::{
    backend::Backoff,
    discover::{DEFAULT_BACKOFF, DISCOVER_TARGET, Entry},
    error::{BoxError, root_cause},
    rng::Rng,
    running::{Run, Running},
};
use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper, PutOptions};
use futures_util::future::{Either, select};
use std::{convert::Infallible, fmt, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// Keeps a backend in an etcd for as long as it is there: for the backend's side of an [`EtcdSource`](super::EtcdSource).
///
/// The key stands under a lease. A backend that crashes is gone when the lease is; one that [`stop`](Self::stop)s is gone at
/// once. A lease that was lost is replaced. What somebody else makes of the key meanwhile (who drains the backend, or takes
/// it out) holds for as long as the lease does.
///
/// A clone is a handle to the same registration.
///
/// ```no_run
/// use tower_balancer::discover::{Entry, EtcdConfig, EtcdRegistration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let etcd = EtcdConfig::new(["http://10.0.0.9:2379"]);
/// let registration = EtcdRegistration::new(etcd, "/web/", Entry::new("http://10.0.0.1:8080"));
/// let task = tokio::spawn(registration.run());
/// // ... serve; then, so that no new requests come any more:
/// registration.announce(Entry::new("http://10.0.0.1:8080").draining(true));
/// // ... and when all have been answered:
/// registration.stop();
/// let _ = task.await;
/// # }
/// ```
#[derive(Clone)]
pub struct EtcdRegistration {
    config: EtcdConfig,
    key: Arc<str>,
    entry: watch::Sender<Entry>,
    ttl: Duration,
    backoff: Backoff,
    seed: Option<u64>,
    running: Running,
}

/// A crash is noticed within this time, and a pause of the backend or of etcd may take so long.
const TTL: Duration = Duration::from_secs(10);

impl EtcdRegistration {
    /// A registration of the backend `entry` under the key that is `prefix` and its URL.
    pub fn new(config: EtcdConfig, prefix: impl AsRef<str>, entry: Entry) -> Self {
        let key = format!("{}{}", prefix.as_ref(), entry.url()).into();
        let (entry, running) = (watch::Sender::new(entry), Running::new());
        Self { config, key, entry, ttl: TTL, backoff: DEFAULT_BACKOFF, seed: None, running }
    }

    /// How long the key stays when the backend is gone without a word, by default 10 s; in whole seconds, from one. etcd makes it
    /// two at the least.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Duration::from_secs(ttl.as_secs().clamp(1, 365 * 86_400));
        self
    }

    /// How long to wait after a failure before etcd is asked again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Where the chance in the [`backoff`](Self::backoff) comes from, by default another number in each run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Says something else of the backend from now on. The key stays the same.
    pub fn announce(&self, entry: Entry) {
        self.entry.send_replace(entry);
    }

    /// Ends the run: the key is taken away.
    pub fn stop(&self) {
        self.running.stop();
    }

    /// Begins a run: a future that keeps the backend registered until [`stop`](Self::stop).
    ///
    /// While one run is going on, a second one ends at once and changes nothing.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is like a crash: the key stays until the lease ends.
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<> {
        let registration = self.clone();
        // Begun here, so that a `stop` counts that comes before the future is first polled.
        let run = self.running.begin();
        async move {
            if let Some(run) = run {
                registration.until_over(run).await;
            }
        }
    }

    async fn until_over(&self, mut run: Run) {
        let mut rng = Rng::new(self.seed.unwrap_or_else(|| fastrand::u64(..)));
        let mut lease = Lease { id: None, announced: self.entry.subscribe(), failures: 0 };
        // Not every backend should begin with the same endpoint.
        let mut turn = fastrand::usize(..);
        while let Some(error) = unless_over(&mut run, self.keep(&mut lease, turn)).await {
            let (key, cause, failures) = (&*self.key, root_cause(&*error), lease.failures + 1);
            warn!(target: DISCOVER_TARGET, key, cause, failures, "cannot keep the registration");
            if unless_over(&mut run, sleep(self.backoff.length(lease.failures, rng.next_u64()))).await.is_none() {
                break;
            }
            lease.failures = lease.failures.saturating_add(1);
            turn = turn.wrapping_add(1);
        }
        self.leave(&lease, turn).await;
    }

    /// Keeps the registration until that fails.
    async fn keep(&self, lease: &mut Lease, turn: usize) -> BoxError {
        match self.try_keep(lease, turn).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_keep(&self, lease: &mut Lease, turn: usize) -> Result<Infallible, BoxError> {
        let mut client = self.config.connect(turn).await?;
        let (mut keeper, mut kept) = self.lease(&mut client, lease).await?;
        lease.failures = 0;
        loop {
            // Several may be lost before it ends.
            if let Ok(Ok(())) = timeout(self.ttl / 3, lease.announced.changed()).await {
                self.put(&mut client, lease, keeper.id()).await?;
            }
            self.config.in_time(keeper.keep_alive()).await?;
            let answer = self.config.in_time(kept.message()).await?.ok_or("etcd no longer keeps the lease")?;
            if answer.ttl() <= 0 {
                return Err("the lease has ended".into());
            }
        }
    }

    /// The lease that there is, or a new one with the key under it.
    async fn lease(
        &self,
        client: &mut Client,
        lease: &mut Lease,
    ) -> Result<(LeaseKeeper, LeaseKeepAliveStream), BoxError> {
        if let Some(id) = lease.id {
            if self.config.in_time(client.lease_time_to_live(id, None)).await?.ttl() > 0 {
                return self.config.in_time(client.lease_keep_alive(id)).await;
            }
            lease.id = None;
        }
        let id = self.config.in_time(client.lease_grant(self.ttl.as_secs() as i64, None)).await?.id();
        self.put(client, lease, id).await?;
        // Not before: a lease without the key is none.
        lease.id = Some(id);
        info!(target: DISCOVER_TARGET, key = &*self.key, lease = id, "registered");
        self.config.in_time(client.lease_keep_alive(id)).await
    }

    async fn put(&self, client: &mut Client, lease: &mut Lease, id: i64) -> Result<(), BoxError> {
        let value = serde_json::to_vec(&*lease.announced.borrow_and_update())?;
        let put = self.config.in_time(client.put(&*self.key, value, Some(PutOptions::new().with_lease(id)))).await;
        if put.is_err() {
            lease.announced.mark_changed();
        }
        put.map(|_| ())
    }

    /// Ends the lease, and the key with it.
    async fn leave(&self, lease: &Lease, turn: usize) {
        let Some(id) = lease.id else { return };
        let key = &*self.key;
        for turn in (0..self.config.endpoints()).map(|more| turn.wrapping_add(more)) {
            let ended = async { self.config.in_time(self.config.connect(turn).await?.lease_revoke(id)).await };
            match ended.await {
                Ok(_) => return info!(target: DISCOVER_TARGET, key, "no longer registered"),
                Err(error) => {
                    let cause = root_cause(&*error);
                    warn!(target: DISCOVER_TARGET, key, cause, "the registration ends when its lease does");
                }
            }
        }
    }
}

/// What `future` comes to, unless the run is over first.
async fn unless_over<F: Future>(run: &mut Run, future: F) -> Option<F::Output> {
    match select(pin!(run.stopped()), pin!(future)).await {
        Either::Left(_) => None,
        Either::Right((output, _)) => Some(output),
    }
}

/// What a run knows from one connection to the next.
struct Lease {
    id: Option<i64>,
    announced: watch::Receiver<Entry>,
    failures: u32,
}

impl fmt::Debug for EtcdRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdRegistration")
            .field("config", &self.config)
            .field("key", &self.key)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
