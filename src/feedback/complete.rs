use crate::backend::{Lease, Outcome};
use tokio::time::Instant;

/// When a request is complete, and its lease ends.
///
/// For most services that is when the answer is there: [`AtResponse`]. An HTTP answer is complete at the end of its
/// body: [`AtEndOfBody`](crate::http::AtEndOfBody). Releasing earlier would make a backend that streams look idle.
pub trait Complete<Res, C> {
    /// What the caller gets: the answer, perhaps with the lease in it.
    type Response;

    /// Takes over the `lease` of a request that was answered, with what the answer says so far, if that says it, and with
    /// `classify` to judge what happens to the rest of it.
    fn complete(&self, lease: Lease, outcome: Option<Outcome>, response: Res, classify: C) -> Self::Response;
}

/// Complete when the answer is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct AtResponse;

impl<Res, C> Complete<Res, C> for AtResponse {
    type Response = Res;

    fn complete(&self, lease: Lease, outcome: Option<Outcome>, response: Res, _classify: C) -> Res {
        // Nobody waits for the end.
        lease.complete(outcome.unwrap_or(Outcome::Success), Instant::now().into_std());
        response
    }
}
