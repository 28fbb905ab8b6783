//! What pools tell of themselves: the numbers follow what happened, and the table names each of them.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer,
    backend::{EjectionCause, HealthState, Lease, Outcome, ResponseTimes},
    metrics::{FAMILIES, Family, Observed, Sink},
    pool::{Member, Routed},
    strategy::RoundRobin,
};

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

/// What was told: `name{value,value} 1`.
#[derive(Default)]
struct Told(Vec<(Family, String)>);

impl Told {
    fn of(pool: &BackendPool<u32>) -> Self {
        let mut told = Self::default();
        observed(pool).tell(now(), &mut told);
        told
    }

    fn tell(&mut self, family: Family, labels: &[&str], value: impl std::fmt::Display) {
        assert_eq!(family.labels().len(), labels.len(), "{}", family.name());
        self.0.push((family, format!("{}{{{}}} {value}", family.name(), labels.join(","))));
    }

    #[track_caller]
    fn has(&self, sample: &str) {
        assert!(self.0.iter().any(|(_, line)| line == sample), "{sample:?} is not among {:#?}", self.lines());
    }

    fn lines(&self) -> Vec<&str> {
        self.0.iter().map(|(_, line)| &**line).collect()
    }
}

impl Sink for Told {
    fn counter(&mut self, family: Family, labels: &[&str], value: u64) {
        self.tell(family, labels, value);
    }
    fn gauge(&mut self, family: Family, labels: &[&str], value: f64) {
        self.tell(family, labels, value);
    }
    fn histogram(&mut self, family: Family, labels: &[&str], times: &ResponseTimes) {
        self.tell(family, labels, times.count());
    }
}

fn observed(pool: &BackendPool<u32>) -> Observed {
    let observed = Observed::new("web", pool);
    #[cfg(feature = "http")]
    let observed = observed.budget(&tower_balancer::http::RetryBudget::default());
    observed
}

fn pool() -> BackendPool<u32> {
    BackendPool::from_members([Member::new("a", 1), Member::new("b", 2)]).unwrap()
}

async fn ask(pool: &BackendPool<u32>) -> Result<u32, BoxError> {
    let end = service_fn(|routed: Routed<u32, ()>| async move { Ok::<_, BoxError>(routed.target) });
    BalancerLayer::new(pool, RoundRobin::new()).layer(FeedbackLayer::default().layer(end)).oneshot(()).await
}

#[tokio::test]
async fn the_numbers_are_those_of_what_happened() {
    let pool = pool();
    for _ in 0..3 {
        ask(&pool).await.unwrap();
    }
    let [a, b] = ["a", "b"].map(|id| pool.get(id).unwrap());
    let start = now();
    Lease::take(Arc::clone(&b), start).complete(Outcome::BackendFault, start + Duration::from_millis(40));
    let _open = Lease::take(Arc::clone(&b), start);
    Lease::take(Arc::clone(&a), start).fail(Outcome::ConnectFault, "refused", start);
    let told = Told::of(&pool);
    // Each layer takes turns of its own, and begins with the first.
    for sample in [
        "balancer_pool_picks_total{web} 3",
        "balancer_pool_backends{web} 2",
        "balancer_pool_available{web} 1",
        "balancer_backend_outcomes_total{web,a,success} 3",
        "balancer_backend_outcomes_total{web,a,connect_fault} 1",
        "balancer_backend_outcomes_total{web,b,backend_fault} 1",
        "balancer_backend_response_seconds{web,a} 3",
        "balancer_backend_response_seconds{web,b} 1",
        "balancer_backend_in_flight{web,b} 1",
        "balancer_backend_state{web,a,ejected} 1",
        "balancer_backend_state{web,a,healthy} 0",
        "balancer_backend_state{web,b,healthy} 1",
        "balancer_backend_ejections_total{web,a,transport} 1",
        "balancer_backend_weight{web,a} 1",
    ] {
        told.has(sample);
    }
    assert!(!told.lines().iter().any(|line| line.starts_with("balancer_backend_limit")));

    pool.set_limit("b", Some(7));
    pool.mark_unhealthy("a");
    pool.mark_unhealthy("b");
    ask(&pool).await.unwrap_err();
    let told = Told::of(&pool);
    told.has("balancer_backend_limit{web,b} 7");
    told.has("balancer_pool_unavailable_total{web,all_unhealthy} 1");
    told.has("balancer_pool_picks_total{web} 3");

    pool.remove("a");
    let is_of_a = |line: &&str| line.contains("{web,a,") || line.contains("{web,a}");
    assert!(!Told::of(&pool).lines().iter().any(is_of_a));
}

#[test]
fn a_slow_answer_counts_where_it_belongs_and_a_timeout_with_the_time_that_it_was_waited_for() {
    let pool = pool();
    let (a, start) = (pool.get("a").unwrap(), now());
    for (outcome, millis) in [
        (Outcome::Success, 3),
        (Outcome::ClientFault, 30),
        (Outcome::Timeout, 30_000),
        // These say nothing of how long answers take.
        (Outcome::Reset, 1),
        (Outcome::Cancelled, 1),
        (Outcome::ConnectFault, 1),
    ] {
        Lease::take(Arc::clone(&a), start).complete(outcome, start + Duration::from_millis(millis));
    }
    let below: Vec<_> = a.load().response_times().cumulative().map(|(_, below)| below).collect();
    assert_eq!(below, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
}

#[test]
fn each_way_out_is_counted_by_its_cause() {
    let pool = BackendPool::from_members((0..8).map(|number| Member::new(number.to_string(), number))).unwrap();
    let backend = |id: &str| pool.get(id).unwrap();
    let start = now();
    let fails = |id: &str, times: u32, at: Instant| {
        (0..times).for_each(|_| Lease::take(backend(id), at).complete(Outcome::BackendFault, at));
    };
    for id in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        (0..20).for_each(|_| Lease::take(backend(id), start).complete(Outcome::Success, start));
    }
    let count = |id: &str| EjectionCause::ALL.map(|cause| backend(id).stats().ejections(cause));
    fails("0", 5, start);
    assert_eq!(count("0"), [0, 1, 0, 0, 0, 0]);
    // Not in a row, and far more than the others.
    let later = start + Duration::from_secs(2);
    for _ in 0..12 {
        fails("1", 4, later);
        Lease::take(backend("1"), later).complete(Outcome::Success, later);
    }
    assert_eq!(count("1"), [0, 0, 1, 0, 0, 0]);
    backend("2").eject("the host knows better", later);
    assert_eq!(count("2"), [0, 0, 0, 0, 0, 1]);

    // On trial it fails again.
    let due = backend("0").health().until().unwrap();
    pool.advance(due);
    assert_eq!(backend("0").health().state(), HealthState::Probing);
    let trial = Lease::try_take(&backend("0"), 1.0, due).unwrap();
    trial.complete(Outcome::BackendFault, due);
    assert_eq!(count("0"), [0, 1, 0, 0, 1, 0]);
}

#[test]
fn the_table_names_what_is_told_and_nothing_else() {
    let table: Vec<_> = include_str!("../src/metrics/mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .map(|line| format!("| `{line}"))
        .collect();
    let rows = FAMILIES.iter().map(|family| {
        let unit = if family.name().ends_with("_seconds") { "seconds " } else { "" };
        let labels: Vec<_> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (family.name(), family.kind().as_str());
        format!("| `{name}` | {kind} | {unit}| {} | {} |", labels.join(", "), family.help())
    });
    let rows: Vec<_> = rows.collect();
    // Without HTTP there is no budget.
    assert!(rows.iter().all(|row| table.contains(row)), "missing in the table:\n{rows:#?}");
    assert!(!cfg!(feature = "http") || table == rows, "the table has others:\n{table:#?}\n{rows:#?}");

    let pool = pool();
    pool.set_limit("a", Some(1));
    let told: BTreeSet<_> = Told::of(&pool).0.iter().map(|(family, _)| family.name()).collect();
    assert_eq!(told, FAMILIES.iter().map(Family::name).collect());
}

#[cfg(feature = "metrics")]
mod facade {
    use super::*;
    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
        Unit, with_local_recorder,
    };
    use std::{collections::BTreeMap, sync::Mutex};
    use tower_balancer::metrics::Exporter;

    /// Writes down what it is told.
    #[derive(Clone, Default)]
    struct Book(Arc<Mutex<BTreeMap<String, f64>>>, Arc<Mutex<Vec<String>>>);

    struct Entry(Book, String);

    impl Entry {
        fn of(book: &Book, key: &Key) -> Arc<Self> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Self(book.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
        }

        fn set(&self, value: f64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl CounterFn for Entry {
        fn increment(&self, more: u64) {
            *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += more as f64;
        }
        // As the recorders do: it never falls.
        fn absolute(&self, value: u64) {
            let mut book = self.0.0.lock().unwrap();
            let count = book.entry(self.1.clone()).or_default();
            *count = count.max(value as f64);
        }
    }

    impl GaugeFn for Entry {
        fn increment(&self, _: f64) {
            unreachable!()
        }
        fn decrement(&self, _: f64) {
            unreachable!()
        }
        fn set(&self, value: f64) {
            Self::set(self, value);
        }
    }

    impl HistogramFn for Entry {
        fn record(&self, value: f64) {
            *self.0.0.lock().unwrap().entry(format!("{} {value}", self.1)).or_default() += 1.0;
        }
    }

    impl Recorder for Book {
        fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
            self.1.lock().unwrap().push(format!("{} {unit:?}", name.as_str()));
        }
        fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.describe_counter(name, unit, text);
        }
        fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.describe_counter(name, unit, text);
        }
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Entry::of(self, key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Entry::of(self, key))
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Entry::of(self, key))
        }
    }

    #[test]
    fn a_recorder_is_told_what_has_come_since_and_nothing_more_of_who_has_left() {
        let (book, pool, start) = (Book::default(), pool(), now());
        let a = pool.get("a").unwrap();
        let answer = |millis| {
            Lease::take(Arc::clone(&a), start).complete(Outcome::Success, start + Duration::from_millis(millis));
        };
        let read = |sample: &str| book.0.lock().unwrap().get(sample).copied();
        with_local_recorder(&book, || {
            let mut exporter = Exporter::new([observed(&pool)]);
            let described = book.1.lock().unwrap().clone();
            assert_eq!(described.len(), FAMILIES.len());
            assert!(described.contains(&"balancer_backend_response_seconds Some(Seconds)".to_owned()));

            answer(3);
            answer(4);
            exporter.publish(start);
            answer(20_000);
            exporter.publish(start);
            assert_eq!(read("balancer_backend_outcomes_total{pool=web,backend=a,outcome=success}"), Some(3.0));
            let times = "balancer_backend_response_seconds{pool=web,backend=a}";
            assert_eq!([read(&format!("{times} 0.005")), read(&format!("{times} 20"))], [Some(2.0), Some(1.0)]);
            assert_eq!(read("balancer_backend_state{pool=web,backend=a,state=healthy}"), Some(1.0));

            pool.remove("a");
            exporter.publish(start);
            assert_eq!(read("balancer_backend_state{pool=web,backend=a,state=healthy}"), Some(0.0));
            assert_eq!(read("balancer_pool_backends{pool=web}"), Some(1.0));
            // Whoever forgets it is not reminded.
            book.0.lock().unwrap().clear();
            exporter.publish(start);
            assert!(!book.0.lock().unwrap().keys().any(|sample| sample.contains("backend=a")));
        });
    }

    #[test]
    fn who_has_left_and_comes_back_counts_on() {
        let (book, pool, start) = (Book::default(), pool(), now());
        let sample = "balancer_backend_outcomes_total{pool=web,backend=a,outcome=success}";
        let answers = |number| {
            let a = pool.get("a").unwrap();
            (0..number).for_each(|_| Lease::take(Arc::clone(&a), start).complete(Outcome::Success, start));
        };
        let read = || book.0.lock().unwrap()[sample];
        with_local_recorder(&book, || {
            let mut exporter = Exporter::new([observed(&pool)]);
            answers(5);
            exporter.publish(start);
            // Seen to be away, and not seen to be away.
            for (is_seen, expected) in [(true, 7.0), (false, 8.0)] {
                pool.remove("a");
                if is_seen {
                    exporter.publish(start);
                }
                pool.insert(Member::new("a", 1)).unwrap();
                answers(if is_seen { 2 } else { 1 });
                exporter.publish(start);
                assert_eq!(read(), expected);
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn it_publishes_at_once_and_every_period() {
        let (book, pool) = (Book::default(), pool());
        let recorder: &'static Book = Box::leak(Box::new(book.clone()));
        metrics::set_global_recorder(recorder).ok();
        let running = tokio::spawn(Exporter::new([observed(&pool)]).run(Duration::from_secs(5)));
        let picks = || book.0.lock().unwrap().get("balancer_pool_picks_total{pool=web}").copied();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(picks(), Some(0.0));
        ask(&pool).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(picks(), Some(0.0));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(picks(), Some(1.0));
        running.abort();
    }
}
