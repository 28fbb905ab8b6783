use tower_balancer::metrics::Family;

pub const BUILD: Family = Family::gauge("gateway_build_info", &["version"], "1, with the version of the gateway");
pub const POOL: Family = Family::gauge("gateway_pool_info", &["pool", "strategy"], "1, with the strategy of the pool");
pub const RESPONSES: Family = Family::counter(
    "gateway_responses_total",
    &["pool", "code"],
    "Requests that clients were answered, by the status, when its head was there",
);
pub const OWN: Family = Family::counter(
    "gateway_own_responses_total",
    &["pool", "reason"],
    "Those of them that the gateway answered itself because no backend did, by the reason",
);
pub const TIMES: Family = Family::histogram(
    "gateway_response_seconds",
    &["pool"],
    "Time from the head of a client's request to that of its answer, with all waiting and all attempts",
);
pub const WAITING: Family =
    Family::gauge("gateway_waiting", &["pool"], "Requests that wait for a place under max_in_flight");
pub const UNROUTED: Family =
    Family::counter("gateway_unrouted_total", &[], "Requests that no route was for, answered 404");
pub const CONNECTIONS: Family = Family::gauge("gateway_connections", &[], "Connections of clients that are open");
pub const ACCEPTED: Family =
    Family::counter("gateway_connections_total", &[], "Connections of clients that there was a place for");
pub const LIMITS: Family =
    Family::counter("gateway_limits_total", &["limit"], "Times that a client met a limit, by the limit");
pub const MALFORMED: Family =
    Family::counter("gateway_malformed_total", &[], "Connections that were closed on a client that spoke no HTTP");
pub const HANDSHAKES: Family =
    Family::counter("gateway_tls_failures_total", &[], "Handshakes of TLS with clients that came to nothing");
pub const LOST_LINES: Family = Family::counter(
    "gateway_log_lines_dropped_total",
    &[],
    "Lines of the log that were dropped because whoever reads it did not keep up",
);
pub const RELOADS: Family = Family::counter(
    "gateway_reloads_total",
    &["result"],
    "Times that the configuration was read again, by whether it was taken up or refused",
);
pub const LAST_RELOAD: Family = Family::gauge(
    "gateway_config_last_reload_successful",
    &[],
    "1 unless the configuration was refused when it was last read again, else 0",
);
pub const SPANS: Family = Family::counter(
    "gateway_spans_total",
    &["result"],
    "Spans of traces, by whether the collector has taken them or they were dropped",
);
pub const START_TIME: Family =
    Family::gauge("process_start_time_seconds", &[], "When the process started, in seconds since 1970");
pub const CPU: Family =
    Family::counter("process_cpu_seconds_total", &[], "Time of the processors that the process has used");
pub const RESIDENT: Family =
    Family::gauge("process_resident_memory_bytes", &[], "Memory of the process that is in RAM");
pub const OPEN_FILES: Family = Family::gauge("process_open_fds", &[], "File descriptors that are open");
pub const MOST_FILES: Family = Family::gauge("process_max_fds", &[], "File descriptors that may be open");
