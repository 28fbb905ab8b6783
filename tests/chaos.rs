//! What a user notices when backends die, hang, lie and come back: real processes behind the real gateway, under load.
//!
//! `cargo bench --bench chaos` runs the same for longer, beside others.

#[path = "common/chaos/mod.rs"]
mod chaos;

use chaos::{Report, Scenario, Trial, be_a_backend_if_told, gateway};
use std::time::Duration;
use tokio::sync::Mutex;

/// With these arguments this program runs nothing but the backend.
const ENTRY: [&str; 4] = ["--exact", "is_a_backend_where_it_was_started_as_one", "--nocapture", "--quiet"];

#[test]
fn is_a_backend_where_it_was_started_as_one() {
    be_a_backend_if_told();
}

/// Runs a scenario of so many seconds, with a second before and a second after.
async fn seconds(seconds: f64, scenario: Scenario) -> Report {
    // One load at a time: each wants the machine for itself. To wait for late answers nobody needs it.
    static ALONE: Mutex<()> = Mutex::const_new(());
    let second = Duration::from_secs(1);
    let during = second.mul_f64(seconds);
    let trial = Trial { scenario, entry: &ENTRY, before: second, during, after: second };
    let quick: &[&str] = if scenario.wants_quick_checks() { &["--health-interval", "100ms"] } else { &[] };
    let offered = {
        let _alone = ALONE.lock().await;
        trial.offer(|address, backends| gateway(address, backends, quick)).await
    };
    let report = offered.report().await;
    eprintln!("{}\n{report}", Report::TITLES);
    report
}

async fn costs_no_request(length: f64, scenario: Scenario) -> Report {
    let report = seconds(length, scenario).await;
    assert_eq!(report.failed(), 0, "of {}: {:?}", report.offered(), report.failures());
    report
}

/// However slow the machine is: most of what is sent is answered meanwhile, and hardly less is sent than before.
fn little_is_held(report: Report) {
    let (share, pace) = (report.answered_of_sent(), report.pace());
    assert!(share >= 0.95 && pace >= 0.3, "{share} answered while it was stopped, at {pace} of the pace before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_killed_costs_no_request() {
    costs_no_request(2.0, Scenario::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_stopped_costs_no_request_and_little_of_the_load() {
    little_is_held(costs_no_request(4.0, Scenario::Stopped).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_stopped_for_long_costs_no_request_and_little_of_the_load() {
    // One connection after the other is held: those of its first moment, and one for each trial.
    little_is_held(costs_no_request(16.0, Scenario::Stopped).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_answers_503_costs_no_request() {
    costs_no_request(2.0, Scenario::Busy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_answers_503_and_passes_its_health_checks_costs_no_request() {
    costs_no_request(2.0, Scenario::Lying).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_resets_in_the_head_costs_no_request() {
    costs_no_request(2.0, Scenario::Broken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_accepts_and_never_answers_costs_no_request() {
    // What it holds must time out before it goes to another: that takes half a minute, in which other scenarios run.
    costs_no_request(2.0, Scenario::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_ten_times_slower_costs_no_request() {
    costs_no_request(2.0, Scenario::Slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_one_after_the_other_costs_no_request() {
    // After a restart a backend is back with the next health check, within five seconds.
    costs_no_request(16.5, Scenario::Rolling).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hurried_restart_of_all_costs_no_request() {
    // The next goes before the last one was checked.
    costs_no_request(4.5, Scenario::Rolling).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_comes_and_goes_each_second_costs_no_request() {
    costs_no_request(8.0, Scenario::Flapping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_post_is_ever_sent_twice() {
    let report = seconds(8.0, Scenario::Posts).await;
    assert!(report.duplicated().is_empty(), "sent twice: {:?}", report.duplicated());
    // It failed where it had to, and was answered where it could be: something was tested.
    let answered = report.offered() - report.failed();
    assert!(report.failed() > 0 && answered * 2 > report.offered(), "{:?}", report.failures());
    assert!(report.seen.len() >= answered);
}
