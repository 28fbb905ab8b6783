use super::Family;

const BACKEND: &[&str] = &["pool", "backend"];
const POOL: &[&str] = &["pool"];

pub(super) const OUTCOMES: Family = Family::counter(
    "balancer_backend_outcomes_total",
    &["pool", "backend", "outcome"],
    "Attempts that ended, by what became of them",
);
pub(super) const RESPONSE_TIMES: Family = Family::histogram(
    "balancer_backend_response_seconds",
    BACKEND,
    "Time from an attempt to the head of its answer, or until it was waited for no longer",
);
pub(super) const IN_FLIGHT: Family =
    Family::gauge("balancer_backend_in_flight", BACKEND, "Attempts that have not ended, to the ends of their answers");
pub(super) const STATE: Family = Family::gauge(
    "balancer_backend_state",
    &["pool", "backend", "state"],
    "1 for the state that the backend is in, 0 for the others",
);
pub(super) const SILENT: Family = Family::gauge(
    "balancer_backend_silent",
    BACKEND,
    "1 where requests wait for the backend and it has stopped answering, else 0",
);
pub(super) const WEIGHT: Family =
    Family::gauge("balancer_backend_weight", BACKEND, "Share of the traffic, beside the weights of the others");
pub(super) const LIMIT: Family =
    Family::gauge("balancer_backend_limit", BACKEND, "Attempts that may be in flight at once, where that is limited");
pub(super) const EJECTIONS: Family = Family::counter(
    "balancer_backend_ejections_total",
    &["pool", "backend", "cause"],
    "Times that traffic or the host put the backend out for a while, by the cause",
);
pub(super) const CHECKS: Family = Family::counter(
    "balancer_backend_checks_total",
    &["pool", "backend", "result"],
    "Health checks, by whether they were passed or failed",
);
pub(super) const BACKENDS: Family = Family::gauge("balancer_pool_backends", POOL, "Backends that the pool has");
pub(super) const AVAILABLE: Family =
    Family::gauge("balancer_pool_available", POOL, "Backends that are in rotation, on trial among them");
pub(super) const PICKS: Family =
    Family::counter("balancer_pool_picks_total", POOL, "Attempts for which a backend was picked");
pub(super) const UNAVAILABLE: Family = Family::counter(
    "balancer_pool_unavailable_total",
    &["pool", "reason"],
    "Attempts for which none could be picked, by the reason",
);
pub(super) const WAITING: Family =
    Family::gauge("balancer_pool_waiting", POOL, "Callers that wait for a backend to become available");
pub(super) const FAIL_OPEN: Family =
    Family::gauge("balancer_pool_fail_open", POOL, "1 while too few backends are well and others are picked, else 0");
pub(super) const FAIL_OPENS: Family = Family::counter(
    "balancer_pool_fail_opens_total",
    POOL,
    "Times that too few backends were well and others were picked from then on",
);
pub(super) const FREEZES: Family = Family::counter(
    "balancer_pool_freezes_total",
    POOL,
    "Times that ejections were frozen because most of the pool went at once, up to one in ten seconds",
);
#[cfg(feature = "http")]
pub(super) const RETRIES: Family =
    Family::counter("balancer_pool_retries_total", POOL, "Further attempts after a failure");
#[cfg(feature = "http")]
pub(super) const HEDGES: Family =
    Family::counter("balancer_pool_hedges_total", POOL, "Further attempts while the first one was waited for");
#[cfg(feature = "http")]
pub(super) const BUDGET_LEFT: Family =
    Family::gauge("balancer_pool_retry_budget_left", POOL, "Further attempts that the budget has now");
#[cfg(feature = "http")]
pub(super) const BUDGET_REFUSALS: Family = Family::counter(
    "balancer_pool_retry_budget_refusals_total",
    POOL,
    "Times that a further attempt was wanted and the budget had none",
);

/// Every metric of a pool.
pub const FAMILIES: &[Family] = &[
    OUTCOMES,
    RESPONSE_TIMES,
    IN_FLIGHT,
    STATE,
    SILENT,
    WEIGHT,
    LIMIT,
    EJECTIONS,
    CHECKS,
    BACKENDS,
    AVAILABLE,
    PICKS,
    UNAVAILABLE,
    WAITING,
    FAIL_OPEN,
    FAIL_OPENS,
    FREEZES,
    #[cfg(feature = "http")]
    RETRIES,
    #[cfg(feature = "http")]
    HEDGES,
    #[cfg(feature = "http")]
    BUDGET_LEFT,
    #[cfg(feature = "http")]
    BUDGET_REFUSALS,
];
