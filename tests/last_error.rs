//! What spoke against a backend last. Not beside its code, which is compiled for the models as well.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tower_balancer::backend::{Backend, Lease, Outcome};

#[test]
fn it_is_remembered_whoever_found_it_and_also_when_it_is_over() {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let backend = Arc::new(Backend::new("a"));
    let last = || backend.last_error().map(|last| (last.words().to_owned(), last.when()));
    let lease = |millis| Lease::take(Arc::clone(&backend), at(millis));

    lease(0).complete(Outcome::ClientFault, at(1));
    lease(1).give_up(at(2));
    assert_eq!(last(), None);

    lease(2).complete(Outcome::BackendFault, at(3));
    assert_eq!(last(), Some(("answered with an error of its own".into(), at(3))));
    lease(4).fail(Outcome::ConnectFault, "Connection refused", at(5));
    assert_eq!(last(), Some(("Connection refused".into(), at(5))));
    backend.mark_unhealthy("status: 500", at(6));
    assert_eq!(last(), Some(("status: 500".into(), at(6))));

    backend.mark_healthy("status: 200", at(7));
    lease(8).complete(Outcome::Success, at(9));
    assert_eq!(last(), Some(("status: 500".into(), at(6))));
    // The same again is noted now and then.
    for (millis, noted) in [(50, 6), (105, 6), (107, 107), (108, 107)] {
        backend.mark_unhealthy("status: 500", at(millis));
        assert_eq!(last().unwrap().1, at(noted));
    }
}
