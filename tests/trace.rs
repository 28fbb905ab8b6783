//! Picks are explained to whoever listens. Alone in its process: who listens is settled once for each place in the code.

use std::sync::{Arc, Mutex};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer,
    pool::{Member, Routed},
    strategy::LeastRequest,
};

#[tokio::test]
async fn each_pick_is_explained_to_whoever_listens() {
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(format!("{}=trace", tower_balancer::balance::PICK_TARGET))
        .with_writer(move || writer.clone())
        .finish();
    let _listening = tracing::subscriber::set_default(subscriber);

    let pool = BackendPool::from_members([Member::new("a", 1), Member::new("b", 2)]).unwrap();
    pool.mark_unhealthy("a");
    let end = service_fn(|routed: Routed<i32, ()>| async move { Ok::<_, BoxError>(routed.target) });
    let layers =
        ServiceBuilder::new().layer(BalancerLayer::new(&pool, LeastRequest::new())).layer(FeedbackLayer::default());
    assert_eq!(layers.service(end).oneshot(()).await.unwrap(), 2);
    let told = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(told.contains("picked b of 1 candidates, 1 out"), "{told}");

    // Of many that are alike, as they were before one was picked.
    written.0.lock().unwrap().clear();
    let pool = BackendPool::from_members((0..4).map(|n| Member::new(n.to_string(), n))).unwrap();
    let layers =
        ServiceBuilder::new().layer(BalancerLayer::new(&pool, LeastRequest::new())).layer(FeedbackLayer::default());
    assert!(layers.service(end).oneshot(()).await.is_ok());
    let told = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(told.contains("by lot among 4 that cost the same") && !told.contains("cost 2"), "{told}");
}
