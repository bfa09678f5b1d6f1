//! Server-sent events as they come in (WHATWG HTML §9.2.6): bytes in any pieces, events out.

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// The `event` field; empty means `message`.
    pub name: String,
    /// The `data` lines, joined by LF.
    pub data: String,
}

/// An event or a line grew past the limit. The stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// An incremental reader of one stream. However the bytes are cut into pieces, the events are the same.
#[derive(Debug)]
pub struct SseDecoder {
    /// Most bytes of a line, and of the data of one event.
    max: usize,
    /// The unfinished line, without its end.
    line: Vec<u8>,
    /// The last byte was CR: a LF that follows belongs to it.
    after_cr: bool,
    /// No line has been finished yet: a byte order mark may lead.
    at_start: bool,
    /// Fields of the event that is being collected; `data` with a LF behind each line.
    name: String,
    data: String,
    /// The limit was passed; everything later is refused too.
    broken: bool,
}

impl SseDecoder {
    /// Events (and lines) have at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, line: Vec::new(), after_cr: false, at_start: true, name: String::new(), data: String::new(), broken: false }
    }

    /// Takes the next bytes and appends the events they complete to `out`. What is incomplete waits for more; at the end
    /// of the stream it is dropped, as the standard says.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<SseEvent>) -> Result<(), TooLong> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.broken {
            if std::mem::take(&mut self.after_cr) {
                if let Some(after) = rest.strip_prefix(b"\n") {
                    rest = after;
                    continue;
                }
            }
            let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
            let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
            if self.line.len() + piece.len() > self.max {
                self.broken = true;
                break;
            }
            self.line.extend_from_slice(piece);
            rest = match after.split_first() {
                None => break,
                Some((byte, after)) => {
                    self.after_cr = *byte == b'\r';
                    after
                }
            };
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, out);
            self.line = line;
            self.line.clear();
        }
        if self.broken { Err(TooLong) } else { Ok(()) }
    }

    fn take_line(&mut self, line: &[u8], out: &mut Vec<SseEvent>) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if self.at_start => rest,
            _ => line,
        };
        self.at_start = false;
        if line.is_empty() {
            return self.dispatch(out);
        }
        // The standard decodes the whole stream with replacement; line ends are ASCII, so line by line is the same.
        let text = String::from_utf8_lossy(line);
        let (field, value) = match text.split_once(':') {
            Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
            None => (&*text, ""),
        };
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" if self.data.len() + value.len() + 1 > self.max.saturating_add(1) => self.broken = true,
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // Comments (an empty field name), `id` and `retry` (we do not reconnect by ourselves; and an id, which holds for all that
            // follows, would be as many copies as there are events), and what nobody knows.
            _ => {}
        }
    }

    fn dispatch(&mut self, out: &mut Vec<SseEvent>) {
        let name = std::mem::take(&mut self.name);
        // No `data` line at all: nothing is dispatched.
        if self.data.is_empty() {
            return;
        }
        self.data.pop();
        out.push(SseEvent { name, data: std::mem::take(&mut self.data) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let (mut decoder, mut out) = (SseDecoder::new(1000), Vec::new());
        for piece in pieces {
            decoder.push(piece, &mut out).unwrap();
        }
        out
    }

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { name: name.into(), data: data.into() }
    }

    #[track_caller]
    fn same_however_cut(stream: &[u8], expected: &[SseEvent]) {
        assert_eq!(read(&[stream]), expected);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&single), expected, "byte by byte");
        for at in 0..=stream.len() {
            let (a, b) = stream.split_at(at);
            assert_eq!(read(&[a, b]), expected, "cut at {at}");
            assert_eq!(read(&[a, b"", b]), expected, "cut at {at} with an empty piece");
        }
    }

    #[test]
    fn the_examples_of_the_standard() {
        same_however_cut(b"data: YHOO\ndata: +2\ndata: 10\n\n", &[event("", "YHOO\n+2\n10")]);
        same_however_cut(
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &[event("", "first event"), event("", "second event"), event("", " third event")],
        );
        same_however_cut(b"data\n\ndata\ndata\n\ndata:", &[event("", ""), event("", "\n")]);
        same_however_cut(b"data:test\n\ndata: test\n\n", &[event("", "test"), event("", "test")]);
    }

    #[test]
    fn every_line_end_means_the_same() {
        let expected = [event("a", "x\ny"), event("", "z")];
        for end in ["\n", "\r", "\r\n"] {
            let text = "event: a\ndata: x\nid: 7\ndata: y\n\ndata: z\n\n".replace('\n', end);
            same_however_cut(text.as_bytes(), &expected);
        }
        same_however_cut(b"data: x\r\n\rdata: y\n\r\n", &[event("", "x"), event("", "y")]);
    }

    #[test]
    fn marks_bad_bytes_and_unknown_fields() {
        same_however_cut("\u{feff}data: ü\n\n".as_bytes(), &[event("", "ü")]);
        same_however_cut(
            b"data: a\xff\xc3\n\nretry: 5\nfoo: bar\nid: a\0b\ndata: b\n\n",
            &[event("", "a\u{fffd}\u{fffd}"), event("", "b")],
        );
        same_however_cut(b"\xef\xbb\xbf\xef\xbb\xbfdata: no field\n\nevent: lost\n\ndata: kept\n\n", &[event("", "kept")]);
        same_however_cut(b"data: unfinished\n", &[]);
    }

    #[test]
    fn an_id_that_holds_for_every_event_is_kept_by_none() {
        let (mut decoder, mut out) = (SseDecoder::new(1 << 20), Vec::new());
        decoder.push(format!("id: {}\n", "a".repeat((1 << 20) - 4)).as_bytes(), &mut out).unwrap();
        decoder.push("data\n\n".repeat(10_000).as_bytes(), &mut out).unwrap();
        assert_eq!(out.len(), 10_000);
        assert!(out.iter().map(|event| event.name.capacity() + event.data.capacity()).sum::<usize>() < 1 << 20);
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let mut out = Vec::new();
        let mut decoder = SseDecoder::new(10);
        assert_eq!(decoder.push(b"data: 12345", &mut out), Err(TooLong));
        assert_eq!(decoder.push(b"\n\n", &mut out), Err(TooLong), "and stays so");
        let mut decoder = SseDecoder::new(10);
        assert_eq!(decoder.push(b"data:12345\ndata:12345\n\n", &mut out), Err(TooLong));
        let mut decoder = SseDecoder::new(10);
        for _ in 0..1000 {
            decoder.push(b": comment\ndata:12345\n\n", &mut out).unwrap();
        }
        assert_eq!(out.len(), 1000);
    }
}
