use super::{
    field::{Field, Malformed, chunk_size, request_line},
    scan::find,
};

/// How the first line of a connection over HTTP/2 reads.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// For so long a line the next one finds its place made.
const LEFT: usize = 1024;

/// Follows the requests on a connection, line by line, and knows where the next begins.
#[derive(Debug)]
pub(super) struct Rules {
    expects: Expects,
    head: Head,
    /// How many heads there were.
    heads: u32,
    /// A line of which the end has not come yet.
    partial: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// The first line of the first request, or the preface of another protocol.
    Opening,
    /// The first line of the next request.
    RequestLine,
    Fields,
    /// So many bytes, and then a request.
    Content(u64),
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The end of the line after a chunk.
    ChunkEnd,
    Trailers,
    /// Nothing that is of any concern here.
    Anything,
}

/// What is known so far of the request whose head was read last.
#[derive(Debug, Default)]
struct Head {
    /// Of HTTP/1.1, or of what pretends to be more.
    must_have_host: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// What may not be, and where in the bytes that were looked at: all before it may pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offence {
    pub(super) at: usize,
    pub(super) in_head: bool,
}

impl Rules {
    pub(super) fn new() -> Self {
        Self { expects: Expects::Opening, head: Head::default(), heads: 0, partial: Vec::new() }
    }

    /// Whether the client has asked for another protocol, and for nothing since.
    pub(super) fn may_switch(&self) -> bool {
        self.head.upgrade
    }

    pub(super) fn is_in_body(&self) -> bool {
        use Expects::{Chunk, ChunkEnd, ChunkSize, Content, Trailers};
        matches!(self.expects, Content(_) | ChunkSize | Chunk(_) | ChunkEnd | Trailers)
    }

    /// How many heads there were, where it is one that is awaited.
    pub(super) fn awaits_head(&self) -> Option<u32> {
        matches!(self.expects, Expects::Opening | Expects::RequestLine | Expects::Fields).then_some(self.heads)
    }

    /// Whether some of it is there, or it is the first.
    pub(super) fn has_begun_head(&self) -> bool {
        self.expects != Expects::RequestLine || !self.partial.is_empty()
    }

    pub(super) fn is_in_request(&self) -> bool {
        match self.expects {
            Expects::Anything => false,
            Expects::Opening | Expects::RequestLine => !self.partial.is_empty(),
            _ => true,
        }
    }

    pub(super) fn begun_request_line(&self) -> usize {
        match self.expects {
            Expects::Opening | Expects::RequestLine => self.partial.len(),
            _ => 0,
        }
    }

    /// The connection speaks another protocol now.
    pub(super) fn switched(&mut self) {
        self.expects = Expects::Anything;
        self.head = Head::default();
    }

    /// Looks at the next bytes. After an offence there is no more to look at.
    pub(super) fn look_at(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.expects {
                Expects::Anything => return Ok(()),
                Expects::Content(left) => {
                    rest = skip(rest, left);
                    if *left == 0 {
                        self.expects = Expects::RequestLine;
                    }
                }
                Expects::Chunk(left) => {
                    rest = skip(rest, left);
                    if *left == 0 {
                        self.expects = Expects::ChunkEnd;
                    }
                }
                expects => {
                    let in_head = matches!(expects, Expects::Opening | Expects::RequestLine | Expects::Fields);
                    self.lines(&mut rest).map_err(|Malformed| Offence { at: bytes.len() - rest.len(), in_head })?;
                }
            }
        }
        Ok(())
    }

    /// Looks at the next line, or at all lines of a head that are there. What is left begins after it, or with the end of the
    /// line that is malformed.
    #[inline]
    fn lines(&mut self, rest: &mut &[u8]) -> Result<(), Malformed> {
        while let Some(end) = find(rest, b'\n') {
            let (line, after) = rest.split_at(end);
            *rest = after;
            match line {
                // Most lines are these, and of no concern.
                [first, .., b'\r'] if self.in_fields() => {
                    if Field::may_begin_with(*first) {
                        self.head.field(&line[..end - 1])?;
                    }
                }
                _ => self.line(line)?,
            }
            *rest = &after[1..];
            if self.expects != Expects::Fields {
                return Ok(());
            }
        }
        self.partial.extend_from_slice(rest);
        *rest = &[];
        Ok(())
    }

    /// Whether the next line is one of a header, and all of it is still to come.
    fn in_fields(&self) -> bool {
        self.expects == Expects::Fields && self.partial.is_empty()
    }

    /// A line up to its LF, or what is left of one.
    fn line(&mut self, line: &[u8]) -> Result<(), Malformed> {
        if self.partial.is_empty() {
            return self.whole_line(line);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(line);
        let result = self.whole_line(&whole);
        if whole.capacity() <= LEFT {
            whole.clear();
            self.partial = whole;
        }
        result
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let [line @ .., b'\r'] = line else { return Err(Malformed) };
        self.expects = match self.expects {
            Expects::Opening if line == PREFACE => Expects::Anything,
            // An empty line before a request is a habit of old clients.
            Expects::Opening | Expects::RequestLine if line.is_empty() => Expects::RequestLine,
            Expects::Opening | Expects::RequestLine => {
                request_line(line)?;
                self.head = Head { must_have_host: !line.ends_with(b"HTTP/1.0"), ..Head::default() };
                Expects::Fields
            }
            Expects::Fields if line.is_empty() => {
                self.heads = self.heads.wrapping_add(1);
                self.head.content()?
            }
            Expects::Fields => {
                self.head.field(line)?;
                Expects::Fields
            }
            Expects::ChunkSize => match chunk_size(line)? {
                0 => Expects::Trailers,
                size => Expects::Chunk(size),
            },
            Expects::ChunkEnd if line.is_empty() => Expects::ChunkSize,
            Expects::ChunkEnd => return Err(Malformed),
            Expects::Trailers if line.is_empty() => Expects::RequestLine,
            // Where a request ends and whom it is for is said before it begins.
            Expects::Trailers if Field::of(line)? == Field::Other => Expects::Trailers,
            Expects::Trailers => return Err(Malformed),
            other @ (Expects::Content(_) | Expects::Chunk(_) | Expects::Anything) => other,
        };
        Ok(())
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        match Field::of(line)? {
            Field::Length(length) if self.length.is_none() && !self.chunked => self.length = Some(length),
            Field::Chunked if self.length.is_none() && !self.chunked => self.chunked = true,
            Field::Length(_) | Field::Chunked => return Err(Malformed),
            Field::Host if !self.host => self.host = true,
            Field::Host => return Err(Malformed),
            Field::Upgrade => self.upgrade = true,
            Field::Other => {}
        }
        Ok(())
    }

    /// What follows the head.
    fn content(&self) -> Result<Expects, Malformed> {
        match self.length {
            _ if self.must_have_host && !self.host => Err(Malformed),
            _ if self.chunked => Ok(Expects::ChunkSize),
            None | Some(0) => Ok(Expects::RequestLine),
            Some(length) => Ok(Expects::Content(length)),
        }
    }
}

/// What comes after the first `left` of `bytes`, or after as many of them as there are.
fn skip<'a>(bytes: &'a [u8], left: &mut u64) -> &'a [u8] {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= here as u64;
    &bytes[here..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_not_paid_for_when_it_is_over() {
        let mut rules = Rules::new();
        for piece in [&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &[b'x'; 60_000], b"\r\n", b"\r\n"] {
            rules.look_at(piece).unwrap();
        }
        assert!(rules.partial.capacity() <= LEFT, "{}", rules.partial.capacity());
    }
}
