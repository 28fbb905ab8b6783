//! One of the balancers, from the real parts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tower_balancer::{
    BackendPool,
    backend::{Backend, BackendId, Lease},
    http::RetryBudget,
    pool::{Member, View},
    strategy::{AnyStrategy, Hint, Prequal, SlowStart},
};

/// One of the uncoordinated balancers: its own pool of the replicas, with what it finds out about them, its own strategy
/// and its own budget.
pub struct Balancer {
    pub pool: BackendPool<usize>,
    view: View<usize, AnyStrategy>,
    /// By replica.
    pub backends: Vec<Arc<Backend>>,
    pub budget: RetryBudget,
    pub prequal: Option<Prequal>,
}

const SLOW_START: Duration = Duration::from_secs(5);

impl Balancer {
    /// With the strategy of that name; with `+slow_start` after it, in that stage, over as long as the warm-up.
    pub fn new(replicas: usize, name: &str, budget: f64) -> Self {
        let prequal = (name == "prequal").then(Prequal::new);
        let known = |name: &str| name.parse::<AnyStrategy>().expect("the name of a strategy");
        let strategy = match (&prequal, name.strip_suffix("+slow_start")) {
            (Some(prequal), _) => AnyStrategy::new(name, prequal.clone()),
            (None, Some(inner)) => AnyStrategy::new(name, SlowStart::new(known(inner)).window(SLOW_START)),
            (None, None) => known(name),
        };
        let members = (0..replicas).map(|replica| Member::new(replica.to_string(), replica));
        let pool = BackendPool::from_members(members).expect("each replica has its number");
        let (view, backends) = (pool.view(strategy), pool.backends());
        Self { pool, view, backends, budget: RetryBudget::new(budget, 0), prequal }
    }

    pub fn pick(&self, tried: &[BackendId], now: Instant, seed: u64) -> Option<(usize, Lease)> {
        self.view.advance(now);
        let snapshot = self.view.load();
        let mut hint = Hint::new(now, seed);
        hint.excluded = tried;
        let (lease, &replica) = snapshot.lease(&hint).ok()?;
        Some((replica, lease))
    }

    pub fn replace(&mut self, replica: usize, name: u64) {
        self.remove(replica);
        self.insert(replica, name);
    }

    pub fn remove(&self, replica: usize) {
        self.pool.remove(self.backends[replica].id().as_str());
    }

    /// Puts in a new one, of which nothing is known.
    pub fn insert(&mut self, replica: usize, name: u64) {
        let id = format!("{replica}-{name}");
        self.pool.insert(Member::new(id.as_str(), replica)).expect("no two have the same name");
        self.backends[replica] = self.pool.get(&id).expect("it was inserted");
    }
}
