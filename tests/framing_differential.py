"""Where does a message end? The same bytes go to the server and to two parsers of HTTP/1.1 that nobody here wrote (h11 and
llhttp); wherever one of them sees another request, or another body, the framing could be used to smuggle requests (THREATS 14).

What the server saw is read from what it did: every request of a case puts a file, a request hidden in a body would put one, too,
and afterwards the files are compared with what the parsers saw, byte by byte. Where the server refuses and closes, nothing can
follow, so that is always fine; so is a parser that refuses. What the server takes, one of the parsers must take as well, and none
may take otherwise.

OXIOS_URL and OXIOS_KEY name a server without a rate limit. FRAMING_SEED repeats a run, FRAMING_CASES says how many generated
cases there are.
"""

import asyncio
import functools
import json
import os
import random
import re
import sys
import urllib.parse

import h11
import llhttp

URL = urllib.parse.urlsplit(os.environ["OXIOS_URL"])
HOST, PORT, KEY = URL.hostname, URL.port, os.environ["OXIOS_KEY"]
SEED = int(os.environ.get("FRAMING_SEED") or random.SystemRandom().randrange(1 << 32))
CASES = int(os.environ.get("FRAMING_CASES") or 2000)
AT_ONCE = 16  # strangers of one peer may hold 64 connections
QUIET = 0.5  # seconds without an answer: the server waits for more …
PATIENCE = 20.0  # … or is slow: whoever says that it waits for too much has waited so long
FOLDER = "/api/workspace/file/"


def head(folder, name, *fields, method="PUT", version="HTTP/1.1", end="\r\n"):
    lines = [f"{method} {FOLDER}{folder}/{name} {version}", f"Host: {HOST}:{PORT}", f"Authorization: Bearer {KEY}", *fields, "", ""]
    return end.join(lines).encode("latin-1")


def put(folder, name, body=b"x", *fields):
    return head(folder, name, f"Content-Length: {len(body)}", *fields) + body


def last(folder):
    """Ends the connection, so that nobody waits for it."""
    return put(folder, "end", b"end", "Connection: close")


def chunked(*chunks, end=b"\r\n", last=b"0\r\n\r\n"):
    return b"".join(b"%x" % len(c) + end + c + end for c in chunks) + last


def written_by_hand(d):
    """Name and bytes of each known trick; `hidden` must never be seen as a request where `one` has a body around it."""
    hidden = put(d, "hidden", b"gotcha")
    n = len(hidden)
    te = "Transfer-Encoding: chunked"
    both = chunked(hidden)

    def one(*fields, **more):
        return head(d, "one", *fields, **more)

    yield "content-length", one(f"Content-Length: {n}") + hidden
    yield "chunked", one(te) + both
    yield "chunked in pieces", one(te) + chunked(hidden[:7], hidden[7:])
    yield "no length", one() + hidden
    yield "length 0", one("Content-Length: 0") + hidden
    # Two lengths, in either order, agreeing or not.
    yield "CL and TE", one(f"Content-Length: {n}", te) + both
    yield "TE and CL", one(te, f"Content-Length: {n}") + both
    yield "CL shorter than the chunks", one("Content-Length: 4", te) + both
    yield "CL longer than the chunks", one(f"Content-Length: {n + 99}", te) + chunked(b"a") + hidden
    yield "CL ends before a hidden request", one("Content-Length: 5", te) + b"0\r\n\r\n" + hidden
    yield "CL twice, the same", one(f"Content-Length: {n}", f"Content-Length: {n}") + hidden
    yield "CL twice, another", one(f"Content-Length: {n}", "Content-Length: 0") + hidden
    yield "CL twice, another, the other way round", one("Content-Length: 0", f"Content-Length: {n}") + hidden
    yield "CL in a list, the same", one(f"Content-Length: {n}, {n}") + hidden
    yield "CL in a list, another", one(f"Content-Length: 0, {n}") + hidden
    for value in ("+{n}", "-{n}", "0{n}", "0000000000000000{n}", " {n} ", "\t{n}", "{n}.0", "{n}e0", "0x{n:x}", "{n}_0", "{n} 0",
                  "{n};", '"{n}"', "", "1844674407370955161{n}", "9223372036854775808", "\x0b{n}", "{n}\x0c", "\xa0{n}", "٣"):
        text = value.format(n=n)
        if all(ord(c) < 256 for c in text):
            yield f"CL {text!r}", one(f"Content-Length:{text}") + hidden
            yield f"CL {text!r} with TE", one(f"Content-Length:{text}", te) + both
    for name in ("Content-Length ", "Content-Length\t", " Content-Length", "Content_Length", "Content-Length\x00", "Content-\x0bLength",
                 "Content-Lengt\xe9", "content-LENGTH", "\x00Content-Length", ":Content-Length"):
        yield f"field {name!r}", one(f"{name}: {n}") + hidden
        yield f"field {name!r} with TE", one(f"{name}: {n}", te) + both
    for value in ("Chunked", "CHUNKED", " chunked ", "\tchunked", "chunked\t", "chunked,", ",chunked", "chunked, chunked", "chunked,chunked",
                  "gzip, chunked", "chunked, gzip", "identity", "identity, chunked", "chunked, identity", "xchunked", "chunkedx", "chunke",
                  "chunked;q=1", "chunked; a=b", '"chunked"', "chunked\x0b", "\x0bchunked", "chunked\x00", "chun\x00ked", "cow", "", "\xa0chunked",
                  "chunked\xa0", "chunked cow", "trailers, chunked"):
        yield f"TE {value!r}", one(f"Transfer-Encoding:{value}") + both
        yield f"TE {value!r} with CL", one(f"Transfer-Encoding:{value}", f"Content-Length: {len(both)}") + both
    for name in ("Transfer-Encoding ", " Transfer-Encoding", "Transfer-Encoding\t", "Transfer_Encoding", "Transfer-Encoding\x00", "transfer-encoding",
                 "X: y\r\n Transfer-Encoding", "X: y\nTransfer-Encoding", "X: y\rTransfer-Encoding", "X: y\x00Transfer-Encoding"):
        yield f"field {name!r}", one(f"{name}: chunked", f"Content-Length: {len(both)}") + both
    yield "TE twice", one(te, te) + both
    yield "TE twice, the last another", one(te, "Transfer-Encoding: identity") + both
    yield "TE twice, the first another", one("Transfer-Encoding: identity", te) + both
    yield "TE in HTTP/1.0", one(te, version="HTTP/1.0") + both
    yield "TE in HTTP/1.0, kept alive", one(te, "Connection: keep-alive", version="HTTP/1.0") + both
    yield "CL in HTTP/1.0, kept alive", one(f"Content-Length: {n}", "Connection: keep-alive", version="HTTP/1.0") + hidden
    # Lines.
    yield "bare LF", one(f"Content-Length: {n}", end="\n") + hidden
    yield "bare CR", one(f"Content-Length: {n}", end="\r") + hidden
    yield "CR CR LF", one(f"Content-Length: {n}", end="\r\r\n") + hidden
    yield "LF CR", one(f"Content-Length: {n}", end="\n\r") + hidden
    yield "folded CL", one("Content-Length:\r\n " + str(n)) + hidden
    yield "folded TE", one("Transfer-Encoding:\r\n chunked") + both
    yield "folded behind CL", one("Content-Length: 1\r\n 0") + hidden
    yield "folded first line", one().replace(b"\r\nHost", b"\r\n Host", 1) + hidden
    yield "empty line first", b"\r\n" + one(f"Content-Length: {n}") + hidden
    yield "empty lines first, LF", b"\n\n" + one(f"Content-Length: {n}") + hidden
    yield "half an empty line", one(f"Content-Length: {n}")[:-2] + b"\n" + hidden
    yield "a line without a colon", one("Content-Length", f"Content-Length: {n}") + hidden
    yield "a field without a name", one(": x", f"Content-Length: {n}") + hidden
    yield "NUL in a value", one("X: a\x00b", f"Content-Length: {n}") + hidden
    yield "CR in a value", one(f"X: a\rContent-Length: {n}") + hidden
    yield "a head that ends twice", one("X: y\r\n") + hidden
    # Chunks.
    size = b"%x" % n
    for name, line in (("extension", size + b";a=b"), ("quoted extension", size + b';a="b;c"'), ("quoted line end", size + b';a="\r\n"'), ("LF in an extension", size + b";a\nb"),
                       ("CR in an extension", size + b";a\rb"), ("space", size + b" "), ("space before extension", size + b" ;a"), ("tab", size + b"\t"), ("space first", b" " + size),
                       ("leading zeros", b"0000" + size), ("many zeros", b"0" * 40 + size), ("upper case", size.upper()), ("0x", b"0x" + size), ("plus", b"+" + size), ("minus", b"-" + size),
                       ("empty", b""), ("no number", b"g"), ("underscore", size[:1] + b"_" + size[1:]), ("over 64 bits", b"f" * 16 + size), ("2^64 plus", b"1" + b"0" * 16 + size[-1:]),
                       ("NUL", size + b"\x00"), ("dot", size + b".0"), ("comma", size + b",0"), ("long extension", size + b";" + b"a" * 20000)):
        yield f"chunk size: {name}", one(te) + line + b"\r\n" + hidden + b"\r\n0\r\n\r\n"
    yield "chunk size: LF", one(te) + size + b"\n" + hidden + b"\r\n0\r\n\r\n"
    yield "chunk size: CR", one(te) + size + b"\r" + hidden + b"\r\n0\r\n\r\n"
    yield "chunk: LF behind data", one(te) + size + b"\r\n" + hidden + b"\n0\r\n\r\n"
    yield "chunk: nothing behind data", one(te) + size + b"\r\n" + hidden + b"0\r\n\r\n"
    yield "chunk: more behind data", one(te) + size + b"\r\n" + hidden + b"XX\r\n0\r\n\r\n"
    yield "chunk: shorter than said", one(te) + b"%x" % (n + 2) + b"\r\n" + hidden + b"\r\n0\r\n\r\n"
    yield "chunk: all line ends LF", one(te) + chunked(hidden, end=b"\n", last=b"0\n\n")
    for name, tail in (("trailer", b"0\r\nX: y\r\n\r\n"), ("trailer with a length", b"0\r\nContent-Length: 50\r\n\r\n"), ("trailer with a coding", b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
                       ("trailer folded", b"0\r\nX: y\r\n z\r\n\r\n"), ("trailer that is none", b"0\r\nGET / HTTP/1.1\r\n\r\n"), ("LF end", b"0\n\n"), ("LF at the very end", b"0\r\n\n"),
                       ("CR end", b"0\r\r"), ("zeros", b"000\r\n\r\n"), ("extension", b"0;a=b\r\n\r\n"), ("space", b"0 \r\n\r\n"), ("no end", b"0\r\n"), ("bare LF trailer", b"0\r\nX: y\n\r\n"),
                       ("CR in trailer", b"0\r\nX: a\rb\r\n\r\n"), ("NUL in trailer", b"0\r\nX: a\x00b\r\n\r\n"), ("huge trailer", b"0\r\nX: " + b"y" * 40000 + b"\r\n\r\n")):
        yield f"last chunk: {name}", one(te) + chunked(b"abc", last=tail)
    # Targets, versions, methods.
    target = f"{FOLDER}{d}/one"
    for name, start in (("absolute form", f"PUT http://{HOST}:{PORT}{target} HTTP/1.1"), ("absolute form, another host", f"PUT http://other{target} HTTP/1.1"), ("two spaces", f"PUT  {target} HTTP/1.1"),
                        ("tab", f"PUT\t{target}\tHTTP/1.1"), ("space in the target", f"PUT {target} x HTTP/1.1"), ("no version", f"PUT {target}"), ("HTTP/1.2", f"PUT {target} HTTP/1.2"),
                        ("HTTP/2.0", f"PUT {target} HTTP/2.0"), ("http/1.1", f"PUT {target} http/1.1"), ("HTTP/1.10", f"PUT {target} HTTP/1.10"), ("space behind", f"PUT {target} HTTP/1.1 "),
                        ("small method", f"put {target} HTTP/1.1"), ("unknown method", f"PUTT {target} HTTP/1.1"), ("CONNECT", f"CONNECT {HOST}:{PORT} HTTP/1.1"), ("GET with a body", f"GET {target} HTTP/1.1"),
                        ("HEAD with a body", f"HEAD {target} HTTP/1.1"), ("asterisk", "OPTIONS * HTTP/1.1")):
        for fields, body in ((f"Content-Length: {n}", hidden), (te, both)):
            yield f"{name}, {fields.split(':')[0]}", f"{start}\r\nHost: {HOST}:{PORT}\r\nAuthorization: Bearer {KEY}\r\n{fields}\r\n\r\n".encode() + body
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden
    yield "upgrade", one("Connection: upgrade", "Upgrade: websocket", f"Content-Length: {n}") + hidden
    yield "h2c", one("Connection: upgrade, http2-settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", f"Content-Length: {n}") + hidden
    yield "expect", one("Expect: 100-continue", f"Content-Length: {n}") + hidden
    yield "expect with chunks", one("Expect: 100-continue", te) + both
    yield "no Host", one(f"Content-Length: {n}").replace(f"Host: {HOST}:{PORT}\r\n".encode(), b"") + hidden
    yield "two Hosts", one("Host: other", f"Content-Length: {n}") + hidden
    yield "close", one("Connection: close", f"Content-Length: {n}") + hidden
    yield "close in a list", one("Connection: x, close", f"Content-Length: {n}") + hidden
    yield "a length named by Connection", one("Connection: content-length", f"Content-Length: {n}") + hidden
    yield "a coding named by Connection", one("Connection: transfer-encoding", te, f"Content-Length: {len(both)}") + both


BYTES = [b"\r", b"\n", b"\r\n", b"\n\r", b"\x00", b" ", b"\t", b":", b";", b",", b"0", b"1", b"a", b"f", b"g", b"+", b"-", b"\x0b", b"\x7f", b"\xa0", b"\xff", b'"']


def mutated(rng, d):
    """A stream of requests in which a few bytes, lines or numbers are not what they were."""
    stream = b""
    for name in rng.sample(["one", "two", "three"], rng.randint(1, 3)):
        inner = put(d, "hidden" + name, b"gotcha") if rng.random() < 0.7 else rng.randbytes(rng.randint(0, 40))
        form = rng.random()
        if form < 0.4:
            part = put(d, name, inner)
        elif form < 0.85:
            cut = rng.randint(0, len(inner))
            pieces = [c for c in (inner[:cut], inner[cut:]) if c]
            part = head(d, name, "Transfer-Encoding: chunked") + chunked(*pieces)
        else:
            part = head(d, name, f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked") + chunked(inner)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            part = change(rng, part)
        stream += part
    return stream


def change(rng, part):
    kind = rng.random()
    lines = part.split(b"\r\n")
    # Not the line with the key: a request that is not let in tells less.
    at = rng.choice([i for i, line in enumerate(lines[:12]) if b"Bearer" not in line] or [0])
    if kind < 0.15:
        lines[at] += rng.choice(BYTES) + rng.choice((b"", b"x", b"X: y"))
    elif kind < 0.25:
        lines[at] = rng.choice(BYTES) + lines[at]
    elif kind < 0.35:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind < 0.45 and at:
        lines.insert(at, rng.choice([b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: +5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: identity",
                                     b"Transfer-Encoding:", b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue", b"Upgrade: h2c", b" folded", b"\tfolded", b"Host: b", b"0", b"5", b"5;x"]))
    elif kind < 0.5:
        del lines[at]
    elif kind < 0.62:
        end = rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n "))
        return b"\r\n".join(lines[:at + 1]) + end + b"\r\n".join(lines[at + 1:])
    elif kind < 0.75:
        numbers = [i for i, line in enumerate(lines) if line[-1:].isalnum() and (line.startswith(b"Content-Length") or all(c in b"0123456789abcdef" for c in line))]
        if numbers:
            at = rng.choice(numbers)
            name, sep, value = lines[at].rpartition(b" ")
            value = rng.choice([b"0" + value, b"+" + value, b"-" + value, b"0x" + value, value + b" ", value + b";x=y", value + b"\t", b"%d" % (rng.randint(0, 200)), b"%x" % rng.randint(0, 200), value + b"," + value, b"f" * 17, value + b"\x00", value.upper()])
            lines[at] = name + sep + value
    else:
        at = rng.randrange(len(part) + 1)
        if KEY.encode() in part[max(0, at - 60):at + 60]:
            return part
        return part[:at] + (rng.choice(BYTES) if rng.random() < 0.7 else rng.randbytes(1)) + part[at + rng.randint(0, 1):]
    return b"\r\n".join(lines)


class Seen:
    """What a parser made of the bytes: whole requests in order, and why there are no more."""

    def __init__(self):
        self.requests = []  # (target, body)
        self.end = "more"  # more: it waits; refused; closed: the last request ends the connection


def seen_by_h11(stream, lenient=False):
    seen = Seen()
    while stream:
        connection, both = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17), False
        if lenient:
            # RFC 9112 lets a server take empty lines before a request (§2.2), and a coding in place of whatever a length says;
            # then the connection ends (§6.3).
            stream = re.sub(rb"\A(\r?\n)+", b"", stream)
            head_, end, rest = re.match(rb"(?s)(.*?)(\r?\n\r?\n|\Z)(.*)", stream).groups()
            lines = re.split(rb"(?<=\n)", head_ + b"\n")
            lengths = [line for line in lines if line.lower().startswith(b"content-length:")]
            both = bool(lengths) and any(line.lower().startswith(b"transfer-encoding:") for line in lines)
            if both:
                stream = b"".join(line for line in lines if line not in lengths).rstrip(b"\r\n") + end + rest
        target, body = None, b""
        try:
            connection.receive_data(stream)
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                    return seen
                if isinstance(event, h11.Request):
                    target = event.target
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
        except h11.RemoteProtocolError:
            seen.end = "refused"
            return seen
        seen.requests.append((target, body))
        # No 2xx, which would let CONNECT and upgrades through.
        connection.send(h11.Response(status_code=400, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if both or connection.our_state is not h11.DONE:
            seen.end = "closed"
            return seen
        stream = connection.trailing_data[0]
    return seen


class Llhttp(llhttp.Request):
    def on_message_begin(self):
        self.target, self.body = b"", b""

    def on_url(self, data):
        self.target += bytes(data)

    def on_body(self, data):
        self.body += bytes(data)

    def on_message_complete(self):
        self.seen.requests.append((self.target, self.body))
        if not self.should_keep_alive:
            self.seen.end = "closed"


def seen_by_llhttp(stream, lenient=False):
    parser = Llhttp()
    parser.seen = Seen()
    # RFC 9112 lets a server take a single LF for the end of a line (§2.2) and spaces before a chunk's extension (§7.1.1).
    parser.lenient_optional_cr_before_lf = parser.lenient_spaces_after_chunk_size = lenient
    try:
        parser.execute(stream)
        if parser.is_upgrading and parser.seen.end == "more":
            parser.seen.end = "closed"
    except llhttp.Error:
        if parser.seen.end != "closed":
            parser.seen.end = "refused"
    return parser.seen


PARSERS = {
    "h11": seen_by_h11,
    "h11, as lenient as RFC 9112": functools.partial(seen_by_h11, lenient=True),
    "llhttp": seen_by_llhttp,
    "llhttp, as lenient as RFC 9112": functools.partial(seen_by_llhttp, lenient=True),
}


async def ask(stream, quiet):
    """Sends everything; answers [(status, closes, body)], and whether the server closed the connection before it was quiet for so
    many seconds."""
    reader, writer = await asyncio.open_connection(HOST, PORT)
    heard, closed = b"", False
    try:
        writer.write(stream)
        while True:
            more = await asyncio.wait_for(reader.read(65536), quiet)
            if not more:
                closed = True
                break
            heard += more
    except asyncio.TimeoutError:
        pass
    except ConnectionError:
        closed = True
    finally:
        writer.close()
    return answers(heard), closed


def answers(heard):
    client, all_ = None, []
    while heard:
        client = h11.Connection(h11.CLIENT)
        # It is not told what was asked: a body that comes is the answer's own. HEAD is not compared.
        client.send(h11.Request(method="PUT", target="/", headers=[("host", "a"), ("content-length", "0")]))
        client.send(h11.EndOfMessage())
        client.receive_data(heard)
        status, closes, body = None, False, b""
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status, closes = event.status_code, (b"connection", b"close") in list(event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif event is h11.NEED_DATA:
                return all_
        all_.append((status, closes, body))
        heard = client.trailing_data[0]
    return all_


async def files(folder):
    """What was put: {name: bytes}."""
    get = "GET {} HTTP/1.1\r\nHost: %s:%d\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n" % (HOST, PORT, KEY)
    (status, _, body), = (await ask(get.format(f"/api/workspace/tree?dir={folder}").encode(), PATIENCE))[0]
    if status == 404:
        return {}
    assert status == 200, status
    found = {}
    for item in json.loads(body):
        name = item["name"]
        (status, _, body), = (await ask(get.format(f"{FOLDER}{folder}/{urllib.parse.quote(name)}").encode(), PATIENCE))[0]
        assert status == 200, status
        found[name] = body
    return found


def compare(folder, heard, closed, found):
    """Why what the server did is not what the parsers saw; nothing where it is."""
    refused = next((n for n, (status, closes, _) in enumerate(heard) if status >= 400 and closes), len(heard))
    taken = heard[:refused]
    ended = closed or refused < len(heard)

    def differs(seen):
        """None: it agrees as far as it goes; and how many of the server's requests it confirms."""
        put = {}
        for n, (status, closes, _) in enumerate(taken):
            if n == len(seen.requests):
                # It refuses what the server takes, or waits for more of it.
                return (n, None if seen.end != "more" else f"request {n} is not whole, and was answered with {status}")
            target, body = seen.requests[n]
            if status == 200:
                put[target] = body
        if not ended and len(seen.requests) > len(taken):
            return (len(taken), f"the server waits for more of request {len(taken)}, which is whole: {seen.requests[len(taken)]}")
        at = f"{FOLDER}{folder}/".encode()
        want = {}
        for target, body in put.items():
            path = target.split(b"?")[0]
            start = path.find(at)
            if start >= 0:
                want[urllib.parse.unquote(path[start + len(at):].decode("latin-1"))] = body
        if want != found:
            return (len(taken), f"put were {found}, and should be {want}")
        return (len(taken), None)

    return taken, differs


async def check(case, totals):
    """The case again and again as another folder; what is wrong with it, if anything."""
    for attempt, quiet in enumerate((QUIET, PATIENCE)):
        folder, name, stream = case("fg"[attempt])
        stream += last(folder)
        heard, closed = await ask(stream, quiet)
        taken, differs = compare(folder, heard, closed, await files(folder))
        confirmed, problems = 0, []
        for parser, see in PARSERS.items():
            n, problem = differs(see(stream))
            if problem:
                problems.append(f"{parser}: {problem}")
            else:
                confirmed = max(confirmed, n)
        if confirmed < len(taken):
            problems.append(f"no parser takes request {confirmed} as the server does")
        if closed or not problems:
            break
    totals["requests"] += len(taken)
    totals["refused"] += len(heard) - len(taken)
    if problems:
        statuses = [status for status, *_ in heard]
        return f"{folder} ({name}): answered {statuses}, closed {closed}\n    {stream!r}\n    " + "\n    ".join(problems)
    return None


async def main():

    def by_hand(n, letter):
        name, stream = list(written_by_hand(f"{letter}h{n}"))[n]
        return f"{letter}h{n}", name, stream

    def generated(n, letter):
        folder = f"{letter}m{n}"
        return folder, "generated", mutated(random.Random(SEED * 1_000_003 + n), folder)

    hand = len(list(written_by_hand("")))
    cases = [functools.partial(by_hand, n) for n in range(hand)] + [functools.partial(generated, n) for n in range(CASES)]
    totals, different = {"requests": 0, "refused": 0}, []
    queue = iter(cases)

    async def worker():
        for case in queue:
            problem = await check(case, totals)
            if problem:
                different.append(problem)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    for problem in different[:8]:
        print(problem)
    print(f"measured framing, FRAMING_SEED={SEED}: {hand} cases by hand, {CASES} generated; {totals['requests']} requests taken, {totals['refused']} refused, {len(different)} seen differently")
    # A run in which hardly anything was taken, or refused, has compared nothing.
    sys.exit(1 if different or min(totals["requests"], totals["refused"]) < len(cases) / 3 else 0)


asyncio.run(main())
