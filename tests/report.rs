//! What a backend says about itself, and for how long it counts.

use allocation_counter::measure;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tower_balancer::{
    backend::{Backend, Moment, Report},
    strategy::{Candidates, ClientWeighted, Eligible, Hint, Picker, Strategy},
};

fn now() -> Instant {
    // The first moment: others before it would be the same.
    let now = tokio::time::Instant::now().into_std();
    Moment::of(now);
    now
}

fn of(qps: f64) -> Report {
    Report { utilization: 0.5, qps, eps: 1.0, in_flight: Some(3.0), latency: Some(0.25) }
}

#[test]
fn the_last_report_is_the_one_that_counts() {
    let (backend, start) = (Backend::new("a"), now());
    let read = |seconds| backend.report(Moment::of(start + Duration::from_secs(seconds)));
    assert_eq!(read(0), None);
    backend.reported(&of(10.0), start);
    backend.reported(&of(20.0), start + Duration::from_secs(5));
    let reported = read(7).unwrap();
    assert_eq!((reported.report, reported.age, reported.since), (of(20.0), 2.0, 7.0));
    // What is not told any more is not known any more.
    backend.reported(&Report { in_flight: Some(0.0), ..Report::default() }, start + Duration::from_secs(8));
    assert_eq!(read(8).unwrap().report, Report { in_flight: Some(0.0), ..Report::default() });
}

#[test]
fn three_minutes_of_silence_end_a_series() {
    let (backend, start) = (Backend::new("a"), now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let since = |seconds| backend.report(Moment::of(at(seconds))).unwrap().since;
    backend.reported(&of(1.0), at(0));
    backend.reported(&of(1.0), at(179));
    assert_eq!(since(179), 179.0);
    backend.reported(&of(1.0), at(359));
    assert_eq!((since(359), since(369)), (0.0, 10.0));
}

#[test]
fn a_report_without_a_value_is_none() {
    let (backend, start) = (Backend::new("a"), now());
    let nothing = Report { utilization: f64::NAN, qps: -1.0, in_flight: Some(f64::INFINITY), ..Report::default() };
    backend.reported(&nothing, start);
    assert_eq!(backend.report(Moment::of(start)), None);
    backend.reported(&of(1.0), start);
    backend.reported(&nothing, start + Duration::from_secs(9));
    assert_eq!(backend.report(Moment::of(start + Duration::from_secs(9))).unwrap().age, 9.0);
}

#[test]
fn reports_of_many_threads_leave_one_of_them() {
    let (backend, start) = (Backend::new("a"), now());
    std::thread::scope(|scope| {
        for qps in 1..=4 {
            let backend = &backend;
            scope.spawn(move || (0..10_000).for_each(|_| backend.reported(&of(qps.into()), start)));
        }
    });
    let reported = backend.report(Moment::of(start)).unwrap();
    assert!([1.0, 2.0, 3.0, 4.0].contains(&reported.report.qps));
    assert_eq!(Report { qps: 0.0, ..reported.report }, Report { qps: 0.0, ..of(0.0) });
}

#[test]
fn weights_follow_the_reports_without_an_allocation() {
    let (backends, start) = (["a", "b", "c"].map(|name| Arc::new(Backend::new(name))), now());
    backends.iter().zip([1.0, 2.0, 3.0]).for_each(|(backend, qps)| backend.reported(&of(qps), start));
    let picker = ClientWeighted::new().build(&backends);
    let all = Eligible::new([true; 3]);
    let mut picks = [0; 3];
    let allocated = measure(|| {
        for second in 0..=100 {
            let now = start + Duration::from_secs(second);
            backends.iter().zip([1.0, 2.0, 3.0]).for_each(|(backend, qps)| backend.reported(&of(qps), now));
            let picked = picker.pick(&Candidates::new(&backends, &all), &Hint::new(now, second));
            picks[picked.unwrap().get()] += 1;
        }
    });
    assert_eq!(allocated.count_total, 0);
    assert!(picks[0] < picks[1] && picks[1] < picks[2], "{picks:?}");
}
