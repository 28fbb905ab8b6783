//! What a client may take of the gateway.

use super::fired::Fired;
use std::time::Duration;

/// How much, how many and how long. The defaults are safe to face strangers with, and generous to those who mean well.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time. Beyond, one more is told 503 and closed.
    pub connections: usize,
    /// Time for a new connection to begin, and for the head of a request to arrive whole; then it is closed, after 408
    /// where some of a head has come.
    pub head_time: Duration,
    /// Bytes of a head, that is of the request line and all header lines; of a header list in HTTP/2. Beyond: 431; 414
    /// where the request line alone has more than 16 KiB.
    pub head_bytes: u32,
    /// Header lines of a request, over HTTP/2 without those of cookies, which some clients send crumb by crumb. Beyond: 431.
    pub headers: usize,
    /// How long a client may send nothing in the middle of a request's body, or take nothing of an answer. Then its connection
    /// is closed, after 408 where it has not been answered yet.
    pub stall: Duration,
    /// Bytes a second that a client has to send of a request's body, or take of an answer, while it is what is waited for; with 0
    /// any byte now and then will do. Who is slower has used up `stall` in the long run, and so has who pauses for that long.
    /// Calls of gRPC are talks, which may have pauses in them: what is sent in them counts as with 0.
    pub min_rate: u32,
    /// Requests at a time on a connection over HTTP/2. Beyond, one more is refused as a stream.
    pub streams: u32,
    /// Streams of HTTP/2 that a client resets before they were looked at. Beyond, the connection is closed
    /// (CVE-2023-44487).
    pub pending_resets: usize,
    /// Streams of HTTP/2 that we have to reset because of what the client did on them. Beyond, the connection is closed
    /// (CVE-2025-8671).
    pub provoked_resets: usize,
    /// How many more requests a client may give up than have answered, on a connection over HTTP/2, where giving up costs
    /// nothing; those with too many header lines are among them. Beyond, it is closed.
    pub abandoned: u32,
    /// Frames of HTTP/2 in a minute that bring nothing: pings, settings, priorities, empty data, windows that are opened for
    /// nothing, and what is known to nobody. What is sent or answered otherwise makes up for some. Beyond, the connection is closed (CVE-2019-9511 to 9518).
    pub empty_frames: u32,
    /// How long a connection is kept on which no request begins; over HTTP/2 up to twice as long. What is under way goes on to
    /// its end.
    pub idle: Duration,
    /// How long a connection over HTTP/2 may be silent before it is asked for a sign of life.
    pub ping_after: Duration,
    /// How long that may take before the connection is closed.
    pub ping_time: Duration,
    /// How often clients have met one of these.
    pub fired: Fired,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_time: Duration::from_secs(30),
            head_bytes: 64 * 1024,
            headers: 100,
            stall: Duration::from_secs(60),
            // Slower than any modem, and enough that a byte now and then keeps nothing open.
            min_rate: 240,
            streams: 100,
            pending_resets: 20,
            provoked_resets: 100,
            abandoned: 200,
            empty_frames: 1_000,
            idle: Duration::from_secs(60),
            ping_after: Duration::from_secs(30),
            ping_time: Duration::from_secs(20),
            fired: Fired::default(),
        }
    }
}
