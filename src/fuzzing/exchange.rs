//! HTTP/1.1 read strictly and by hand: what a client said (as far as it can mean one thing only) and what was answered. Shares no
//! code with the server, so that a mistake there is not made here again.

/// A request that every reader takes for the same.
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    /// Names in lower case.
    pub(super) fields: Vec<(String, &'a str)>,
    pub(super) body: &'a [u8],
}

impl Question<'_> {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
    /// The target without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
    /// Nothing in it could be a credential.
    pub(super) fn is_strangers(&self) -> bool {
        self.field("authorization").is_none() && self.field("cookie").is_none() && !self.target.contains('?')
    }
}

/// The requests at the beginning that leave no doubt, and the bytes behind them.
pub(super) fn questions(bytes: &[u8]) -> (Vec<Question<'_>>, &[u8]) {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Some((question, behind)) = question(rest) {
        let last = question.field("connection").is_some();
        all.push(question);
        rest = behind;
        if last {
            break;
        }
    }
    (all, rest)
}

fn question(bytes: &[u8]) -> Option<(Question<'_>, &[u8])> {
    let end = find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    if head.len() > 8 * 1024 || !head.is_ascii() {
        return None;
    }
    let mut lines = head.split("\r\n");
    let (method, rest) = lines.next()?.split_once(' ')?;
    let (target, version) = rest.split_once(' ')?;
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !known.contains(&method) || version != "HTTP/1.1" || !target.starts_with('/') || !plain(target) || target.contains(['#', '"']) {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let value = value.trim_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|b| b.is_ascii_control()) {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value));
    }
    let of = |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>();
    // What changes the framing or the protocol is somebody else's matter; so is a connection that is to end.
    let others = ["transfer-encoding", "expect", "upgrade", "te", "trailer", "keep-alive", "proxy-connection"];
    if fields.len() > 32 || of("host").len() != 1 || others.iter().any(|name| !of(name).is_empty()) || of("connection").len() > 1 {
        return None;
    }
    if of("connection").iter().any(|value| *value != "close") {
        return None;
    }
    let len = match of("content-length")[..] {
        [] => 0,
        [text] if text.len() < 7 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
        _ => return None,
    };
    let body = bytes.get(end + 4..end + 4 + len)?;
    Some((Question { method, target, fields, body }, &bytes[end + 4 + len..]))
}

/// What was answered.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) fields: Vec<(&'a str, &'a str)>,
    pub(super) body: Vec<u8>,
    /// All of it has come.
    pub(super) whole: bool,
}

impl Answer<'_> {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
    /// Nothing follows it.
    pub(super) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
    /// It ends when its reader or its subject does.
    pub(super) fn is_endless(&self) -> bool {
        self.status == 101 || self.field("content-type") == Some("text/event-stream")
    }
}

/// Reads all answers; `methods` are those of the first questions. Behind an answer with status 101 stands another protocol, which
/// comes back, too.
///
/// # Panics
/// They are no well-formed answers.
pub(super) fn answers<'a>(bytes: &'a [u8], methods: &[&str]) -> (Vec<Answer<'a>>, &'a [u8]) {
    let (mut all, mut rest): (Vec<Answer<'_>>, _) = (Vec::new(), bytes);
    while !rest.is_empty() {
        assert!(all.last().is_none_or(|last| last.whole && !last.closes()), "bytes behind the last answer: {:?}", text(rest));
        let Some((mut answer, behind)) = head(rest) else {
            panic!("no head of an answer: {:?}", text(rest));
        };
        rest = behind;
        if answer.status == 100 {
            continue;
        }
        if answer.status == 101 {
            answer.whole = true;
            all.push(answer);
            return (all, rest);
        }
        rest = body(&mut answer, methods.get(all.len()).copied(), rest);
        all.push(answer);
    }
    (all, rest)
}

fn head(bytes: &[u8]) -> Option<(Answer<'_>, &[u8])> {
    let end = find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    // RFC 9112 §4: the reason may be empty, the space before it may not.
    let status = lines.next()?;
    let status = status.strip_prefix("HTTP/1.1 ").or_else(|| status.strip_prefix("HTTP/1.0 "))?;
    let (code, reason) = status.split_once(' ')?;
    assert!(code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()) && !reason.contains(|c: char| c.is_control()), "{status:?}");
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{line:?}");
        assert!(value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && value.trim() == value, "{line:?}");
        fields.push((name, value));
    }
    for once in ["content-length", "transfer-encoding", "content-type", "date", "x-request-id", "connection", "location", "allow"] {
        assert!(fields.iter().filter(|(name, _)| *name == once).count() <= 1, "{once} stands twice: {head:?}");
    }
    Some((Answer { status: code.parse().ok()?, fields, body: Vec::new(), whole: false }, &bytes[end + 4..]))
}

/// Fills in the body and gives what stands behind it. Where the method is not known, a body that is announced and followed by
/// another answer at once is one of HEAD.
fn body<'a>(answer: &mut Answer<'_>, method: Option<&str>, rest: &'a [u8]) -> &'a [u8] {
    let (len, coding) = (answer.field("content-length"), answer.field("transfer-encoding"));
    assert!(len.is_none() || coding.is_none(), "two lengths");
    // What came too slowly or not at all was no HEAD to the server.
    let method = method.filter(|_| !(answer.closes() && len.is_some_and(|len| len == rest.len().to_string())));
    // RFC 9110 §6.4.1.
    if matches!(answer.status, 204 | 304) || method == Some("HEAD") {
        answer.whole = true;
        return rest;
    }
    if let Some(len) = len {
        let len: usize = len.parse().unwrap_or_else(|_| panic!("content-length {len:?}"));
        let follows = |rest: &[u8]| rest.is_empty() || rest.starts_with(b"HTTP/1.");
        let fits = rest.len() >= len && follows(&rest[len.min(rest.len())..]);
        if method.is_none() && !fits && follows(rest) {
            answer.whole = true;
            return rest;
        }
        let (body, behind) = rest.split_at(len.min(rest.len()));
        answer.body = body.to_vec();
        answer.whole = body.len() == len;
        return behind;
    }
    if let Some(coding) = coding {
        assert_eq!(coding, "chunked");
        if method.is_none() && rest.starts_with(b"HTTP/1.") {
            answer.whole = true;
            return rest;
        }
        return chunks(answer, rest);
    }
    // RFC 9112 §6.3, item 8: it ends with the connection, so it must say so. Only an HTTP/1.0 client gets such a one.
    answer.body = rest.to_vec();
    answer.whole = true;
    &[]
}

fn chunks<'a>(answer: &mut Answer<'_>, mut rest: &'a [u8]) -> &'a [u8] {
    while let Some(end) = find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap_or("?");
        let len = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {size:?}"));
        let data = &rest[end + 2..];
        if data.len() < len + 2 {
            answer.body.extend_from_slice(&data[..len.min(data.len())]);
            return &[];
        }
        assert_eq!(&data[len..len + 2], b"\r\n", "a chunk ends with its line");
        answer.body.extend_from_slice(&data[..len]);
        rest = &data[len + 2..];
        if len == 0 {
            answer.whole = true;
            return rest;
        }
    }
    &[]
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The beginning, for a message.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_leaves_no_doubt_or_is_none() {
        let count = |text: &str| questions(text.as_bytes()).0.len();
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(count(&get.repeat(3)), 3);
        assert_eq!(count(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc{get}")), 2);
        for doubtful in [
            "GET / HTTP/1.1\nhost: a\n\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n b: c\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc",
        ] {
            assert_eq!(count(doubtful), 0, "{doubtful:?}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let bytes =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut";
        let (all, _) = answers(bytes, &["GET"]);
        let seen: Vec<_> = all.iter().map(|a| (a.status, text(&a.body), a.whole)).collect();
        let whole = |status, body: &str| (status, body.to_owned(), true);
        assert_eq!(seen, [whole(200, "hi"), whole(200, ""), whole(204, ""), whole(200, "ab"), (200, "cut".to_owned(), false)]);
    }

    #[test]
    #[should_panic(expected = "no head of an answer")]
    fn bytes_that_are_no_answer_are_seen() {
        answers(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhigh", &["GET"]);
    }
}
