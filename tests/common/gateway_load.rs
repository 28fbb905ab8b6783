//! Clients that never stop asking, and count what they do not get.

use super::{client, get};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Clients at work: each other one keeps its connection, the others make one for each request.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    pub fn on(url: &str, clients: usize) -> Self {
        let mut load =
            Self { stop: Arc::default(), answered: Arc::default(), failed: Arc::default(), clients: JoinSet::new() };
        for number in 0..clients {
            let (stop, answered, url) = (Arc::clone(&load.stop), Arc::clone(&load.answered), url.to_owned());
            let all_failed = Arc::clone(&load.failed);
            load.clients.spawn(async move {
                let mut kept = client();
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        kept = client();
                    }
                    let request = Request::get(&url).body(Full::<Bytes>::default()).unwrap();
                    let answer = async {
                        let response = kept.clone().oneshot(request).await?;
                        let status = response.status();
                        response.into_body().collect().await?;
                        Ok::<_, tower::BoxError>(status)
                    };
                    let answer = answer.await;
                    if !matches!(&answer, Ok(status) if *status == 200) {
                        all_failed.fetch_add(1, Ordering::Relaxed);
                    }
                    match answer {
                        Ok(status) if status == 200 => _ = answered.fetch_add(1, Ordering::Relaxed),
                        Ok(status) => failed.push(format!("client {number}: {status}")),
                        Err(error) => failed.push(format!("client {number}: {error:?}")),
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                failed
            });
        }
        load
    }

    /// How many requests have been answered by now.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many have failed by now.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until so many more are answered.
    pub async fn more(&self, requests: usize) {
        let enough = self.answered() + requests;
        super::until(|| async { self.answered() >= enough }).await;
    }

    /// What was answered, and what was not.
    pub async fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            failed.extend(ended.unwrap());
        }
        (self.answered(), failed)
    }
}

/// The pools as the admin server tells of them.
pub async fn pools(admin: &str) -> serde_json::Value {
    let (status, pools) = get(format!("http://{admin}/pools")).await;
    assert_eq!(status, 200);
    serde_json::from_str(&pools).unwrap()
}
