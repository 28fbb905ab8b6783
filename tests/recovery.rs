//! All backends are gone for a minute, and back: what that costs, in virtual time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer, HealthChecker, Unavailable,
    backend::Backend,
    pool::{Member, Routed},
    strategy::RoundRobin,
};

/// Three backends that can all be switched off, and how often they were asked while they were.
#[derive(Clone, Default)]
struct Site {
    is_off: Arc<AtomicBool>,
    asked_in_vain: Arc<AtomicU32>,
}

impl Site {
    fn answer(&self) -> Result<String, BoxError> {
        if self.is_off.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        }
        Ok("well".to_owned())
    }

    /// A hundred requests a second for so long; how many were answered, refused at once, and failed.
    async fn ask(&self, pool: &BackendPool<u32>, seconds: u64) -> [u32; 3] {
        let site = self.clone();
        let end = service_fn(move |_: Routed<u32, ()>| {
            let site = site.clone();
            async move { site.answer().inspect_err(|_| _ = site.asked_in_vain.fetch_add(1, Ordering::Relaxed)) }
        });
        let service = BalancerLayer::new(pool, RoundRobin::new()).layer(FeedbackLayer::default().layer(end));
        let mut counts = [0; 3];
        for _ in 0..seconds * 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            match service.clone().oneshot(()).await {
                Ok(_) => counts[0] += 1,
                Err(error) if error.is::<Unavailable>() => counts[1] += 1,
                Err(_) => counts[2] += 1,
            }
        }
        counts
    }
}

fn pool() -> BackendPool<u32> {
    BackendPool::from_members((0..3).map(|number| Member::new(number.to_string(), number))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn with_a_checker_traffic_is_back_within_an_interval_and_nobody_was_asked_meanwhile() {
    let (site, pool) = (Site::default(), pool());
    let asked = site.clone();
    let probe = move |_: u32| {
        let answer = asked.answer();
        async { answer }
    };
    let interval = Duration::from_secs(5);
    let checker = HealthChecker::new(&pool, probe).interval(interval);
    let _checks = tokio::spawn(checker.run());
    assert_eq!(site.ask(&pool, 10).await, [1_000, 0, 0]);

    site.is_off.store(true, Ordering::Relaxed);
    let [answered, refused, failed] = site.ask(&pool, 60).await;
    // At most one request found each of them out, and none tried them after that.
    assert!(answered == 0 && refused + failed == 6_000 && failed <= 3, "{failed}");
    assert_eq!(site.asked_in_vain.load(Ordering::Relaxed), failed);

    site.is_off.store(false, Ordering::Relaxed);
    let back = Instant::now();
    while pool.healthy().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(back.elapsed() <= interval * 6 / 5, "{:?}", back.elapsed());
    assert_eq!(site.ask(&pool, 10).await, [1_000, 0, 0]);
    assert_eq!(pool.healthy().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_one_single_requests_find_out_less_and_less_often() {
    let (site, pool) = (Site::default(), pool());
    site.is_off.store(true, Ordering::Relaxed);
    let [answered, refused, failed] = site.ask(&pool, 60).await;
    // Each at once, and after about 5, 15 and 35 seconds.
    assert!(answered == 0 && refused + failed == 6_000 && (9..=15).contains(&failed), "{failed}");

    site.is_off.store(false, Ordering::Relaxed);
    let longest = pool.backends().iter().filter_map(|backend: &Arc<Backend>| backend.health().until()).max().unwrap();
    let wait = longest - Instant::now().into_std();
    assert!(wait <= Duration::from_secs(48), "{wait:?}");
    site.ask(&pool, wait.as_secs() + 2).await;
    assert_eq!(site.ask(&pool, 5).await, [500, 0, 0]);
    assert_eq!(pool.healthy().len(), 3);
}
