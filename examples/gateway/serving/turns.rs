//! Turns: how much a connection has done before another is served.
//!
//! The runtime lets a task do some 128 operations in a row, whatever they cost. For us one of them may be a read that brings
//! thousands of small frames, or a connection that is accepted and has a life of its own ahead of it; and whoever asks for
//! one small thing waits until all of that is through. So a connection reads so many bytes in a row, and one is accepted at a
//! time. Who wants more stands in line, and of those that do all together have so much time before everybody else is served:
//! it is deficit round robin (Shreedhar and Varghese, 1995) in two classes, where who asks for little is always the first.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::yield_now,
    time::Instant,
};

/// Bytes from a client that are read in a turn.
const BYTES: usize = 16 * 1024;

/// Bytes that are written to a client in a turn.
const WRITTEN: usize = 256 * 1024;

/// Frames that are read in a turn, in bytes: they can be two hundred, or headers that are unpacked to a hundred times as much.
const FRAMES: usize = 2 * 1024;

/// How long those that want more than a turn go on, one after another, until the runtime looks who else there is.
const ROUND: Duration = Duration::from_micros(200);

/// The line of one worker, in which stands who has had a turn and wants more.
#[derive(Clone, Debug)]
pub struct Turns(UnboundedSender<Arc<Rest>>);

impl Turns {
    /// A line, and the future that moves it, for the runtime on which its connections are.
    pub fn new() -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (line, first) = unbounded_channel();
        (Self(line), moved(first))
    }

    /// Stands in line once.
    pub async fn rest(&self) {
        let mut rest = None;
        poll_fn(|cx| self.poll_rest(&mut rest, cx)).await;
    }

    fn poll_rest(&self, rest: &mut Option<Arc<Rest>>, cx: &mut Context<'_>) -> Poll<()> {
        match rest {
            Some(over) if over.is_over.load(Ordering::Relaxed) => {
                *rest = None;
                return Poll::Ready(());
            }
            Some(rest) if rest.waker.will_wake(cx.waker()) => return Poll::Pending,
            _ => {}
        }
        let next = Arc::new(Rest { is_over: AtomicBool::new(false), waker: cx.waker().clone() });
        if self.0.send(Arc::clone(&next)).is_err() {
            // Nobody moves the line any more.
            return Poll::Ready(());
        }
        *rest = Some(next);
        Poll::Pending
    }
}

async fn moved(mut line: UnboundedReceiver<Arc<Rest>>) {
    while let Some(mut first) = line.recv().await {
        // Everybody else.
        yield_now().await;
        let began = Instant::now();
        loop {
            first.end();
            served().await;
            if began.elapsed() >= ROUND {
                break;
            }
            let Ok(next) = line.try_recv() else { break };
            first = next;
        }
    }
}

/// Ready when all were served that have been woken, whether or not the runtime has looked for others.
async fn served() {
    let mut woken = false;
    poll_fn(|cx| {
        if woken {
            return Poll::Ready(());
        }
        woken = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What comes after a turn. A connection that wakes itself meanwhile, as one over HTTP/2 does whenever it has refused
/// something, would otherwise be served sixty times in a row.
#[derive(Debug)]
struct Rest {
    is_over: AtomicBool,
    waker: Waker,
}

impl Rest {
    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

/// What a connection has done in its turn. Reading ends with what was read and writing with what was written; meanwhile the other
/// goes on, and timers ring. With the runtime's budget all would wait, until the client has nothing more to say.
#[derive(Debug)]
pub struct Turn {
    read: usize,
    written: usize,
    // Each side has its own: they may be polled by different tasks.
    reader: Option<Arc<Rest>>,
    writer: Option<Arc<Rest>>,
    line: Turns,
}

impl Turn {
    pub fn new(line: Turns) -> Self {
        Self { read: 0, written: 0, reader: None, writer: None, line }
    }

    /// Whether that of the reader is over, and the next has not come.
    pub fn is_over(&self) -> bool {
        self.reader.is_some()
    }

    /// The next turn of the reader.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.line.poll_rest(&mut self.reader, cx));
        self.read = 0;
        Poll::Ready(())
    }

    /// Whether there may be written. What is goes to [`wrote`](Self::wrote).
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.written >= WRITTEN {
            ready!(self.line.poll_rest(&mut self.writer, cx));
            self.written = 0;
        }
        Poll::Ready(())
    }

    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Reads while the turn is not over; then everybody else is served first. Of HTTP/2 no more than is done quickly, after what
    /// is `left` of the frame that has begun.
    pub fn poll_read(
        &mut self,
        stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        left: Option<usize>,
    ) -> Poll<io::Result<()>> {
        if self.read >= BYTES {
            ready!(self.poll_next(cx));
        }
        let most = left.map_or(usize::MAX, |left| left + FRAMES).min(buf.remaining());
        let is_some = most < buf.remaining();
        let (read, bytes) = if is_some {
            let mut some = ReadBuf::new(buf.initialize_unfilled_to(most));
            let read = stream.poll_read(cx, &mut some);
            let bytes = some.filled().len();
            buf.advance(bytes);
            (read, bytes)
        } else {
            let before = buf.filled().len();
            (stream.poll_read(cx, buf), buf.filled().len() - before)
        };
        self.read = match read {
            Poll::Pending => 0,
            // There is more.
            Poll::Ready(_) if is_some && bytes == most => BYTES,
            Poll::Ready(_) => self.read + bytes,
        };
        read
    }
}

/// A new connection is a turn: those that are there already go on.
pub async fn accepted() {
    yield_now().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fmt::Write, pin::pin, sync::Mutex};

    #[tokio::test]
    async fn a_turn_is_over_with_a_connection() {
        let served = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&served);
        tokio::spawn(async move { other.store(true, Ordering::Relaxed) });
        assert!(!served.load(Ordering::Relaxed));
        accepted().await;
        assert!(served.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_turn_is_over_with_16_kib_in_a_row() {
        let (line, moved) = Turns::new();
        tokio::spawn(moved);
        let mut turn = Turn::new(line);
        let mut read = move |cx: &mut Context<'_>, bytes: usize| {
            let (there, mut all) = (vec![0; bytes], vec![0; bytes.max(1)]);
            let stream = Once(&there);
            turn.poll_read(pin!(stream), cx, &mut ReadBuf::new(&mut all), None)
        };
        let mut polls = 0;
        let turns = poll_fn(move |cx| {
            polls += 1;
            if polls == 1 {
                // All that there was.
                assert!(read(cx, 15 * 1024).is_ready() && read(cx, 0).is_pending());
                assert!(read(cx, 15 * 1024).is_ready() && read(cx, 1024).is_ready());
                // It is woken for something else as well, and before the others were served.
                cx.waker().wake_by_ref();
                assert!(read(cx, 1).is_pending() && read(cx, 1).is_pending());
                return Poll::Pending;
            }
            read(cx, 1).map(|_| polls)
        });
        // Once for that, and then in its turn.
        assert_eq!(tokio::spawn(turns).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_turn_is_over_with_256_kib_written_and_reading_goes_on_whoever_does_it() {
        let (line, moved) = Turns::new();
        let (mut turn, mut moved) = (Turn::new(line), pin!(moved));
        let flags = [(); 2].map(|()| Arc::new(Woken::default()));
        let [reader, writer] = flags.clone().map(Waker::from);
        let mut all = vec![0; 1 << 20];
        turn.wrote(WRITTEN);
        assert!(turn.poll_write(&mut Context::from_waker(&writer)).is_pending());
        let read = |turn: &mut Turn, all: &mut [u8]| {
            let there = Once(&[0; 16 * 1024]);
            turn.poll_read(pin!(there), &mut Context::from_waker(&reader), &mut ReadBuf::new(all), None)
        };
        assert!(read(&mut turn, &mut all).is_ready());
        assert!(read(&mut turn, &mut all).is_pending());
        poll_fn(|cx| {
            _ = moved.as_mut().poll(cx);
            let all_woken = flags.iter().all(|woken| woken.0.load(Ordering::Relaxed));
            if all_woken { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert!(turn.poll_write(&mut Context::from_waker(&writer)).is_ready());
        assert!(read(&mut turn, &mut all).is_ready());
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn of_many_frames_a_few_are_read_in_a_turn_and_a_large_one_whole() {
        let much = vec![7; 100_000];
        for (left, expected) in [(0, FRAMES), (50_000, 50_000 + FRAMES), (usize::MAX / 2, 100_000)] {
            let (line, _moved) = Turns::new();
            let (mut turn, mut stream, mut bytes) = (Turn::new(line), &*much, vec![0; 200_000]);
            let mut buf = ReadBuf::new(&mut bytes);
            let mut read = |cx: &mut Context<'_>| turn.poll_read(Pin::new(&mut stream), cx, &mut buf, Some(left));
            let polls = poll_fn(|cx| Poll::Ready([read(cx), read(cx)].map(|read| read.is_ready()))).await;
            assert_eq!(polls, [true, false]);
            assert_eq!(buf.filled(), &much[..expected]);
        }
    }

    /// What a round of the runtime brings is written down as a dot, and a turn as the number of who has it.
    async fn written(turn: fn()) -> String {
        let log = Arc::new(Mutex::new(String::new()));
        let (line, moved) = Turns::new();
        let greedy: Vec<_> = (0..3)
            .map(|number| {
                let (line, log) = (line.clone(), Arc::clone(&log));
                tokio::spawn(async move {
                    for _ in 0..3 {
                        line.rest().await;
                        write!(log.lock().unwrap(), "{number}").unwrap();
                        turn();
                    }
                })
            })
            .collect();
        let looks = Arc::clone(&log);
        let looks = tokio::spawn(async move {
            loop {
                yield_now().await;
                looks.lock().unwrap().push('.');
            }
        });
        tokio::spawn(moved);
        futures_util::future::join_all(greedy).await;
        looks.abort();
        let log = log.lock().unwrap();
        log.trim_matches('.').to_owned()
    }

    #[tokio::test]
    async fn those_who_want_more_go_on_in_line_while_there_is_time_and_then_all_others_are_served() {
        assert_eq!(written(|| std::thread::sleep(ROUND)).await, "0.1.2.0.1.2.0.1.2");
        // Others are seen meanwhile only where the runtime looks for them anyway.
        let quick = written(|| {}).await.replace('.', "");
        assert_eq!(quick, "012012012");
    }

    /// All of it in one piece, and then nothing for now.
    struct Once<'a>(&'a [u8]);

    impl AsyncRead for Once<'_> {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.put_slice(self.0);
            if self.0.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }
}
