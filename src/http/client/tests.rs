//! The outgoing client against servers of all kinds.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn get(target: Target) -> Outgoing {
    let second = Duration::from_secs(5);
    Outgoing {
        target,
        method: Method::GET,
        path_and_query: "/x?y=1".into(),
        headers: vec![(header::AUTHORIZATION, HeaderValue::from_static("Bearer k"))],
        body: Bytes::new(),
        connect: second,
        first_byte: second,
        between: second,
    }
}

fn client() -> Client {
    Client::new(ClientSettings::default())
}

async fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, Target::Url(Url::parse(&url).unwrap()))
}

/// Reads one request head and answers with these bytes, then returns the stream still open, and the head.
async fn answer(listener: &TcpListener, bytes: &[u8]) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    stream.write_all(bytes).await.unwrap();
    (stream, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn a_request_carries_its_fields_and_the_body_comes_in_pieces() {
    let (listener, target) = listen().await;
    let server = async {
        let (mut stream, head) = answer(&listener, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        stream.write_all(b"2\r\nde\r\n0\r\n\r\n").await.unwrap();
        head
    };
    let call = async {
        let incoming = client().send(get(target)).await.unwrap();
        assert_eq!(incoming.status, 200);
        incoming.collect(5).await.unwrap()
    };
    let (head, body) = tokio::join!(server, call);
    assert_eq!(body, b"abcde");
    assert!(head.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    for field in ["authorization: bearer k", "host: 127.0.0.1:", "connection: close", "user-agent: oxios-edge/"] {
        assert!(head.contains(field), "{head}");
    }
    assert!(!head.contains("transfer-encoding"));
}

#[tokio::test]
async fn a_unix_socket_is_a_target_too() {
    let dir = std::env::temp_dir().join(format!("oxios-client-{}", std::process::id()));
    let _ = std::fs::remove_file(&dir);
    let listener = tokio::net::UnixListener::bind(&dir).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 16];
        stream.read_exact(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        stream
    };
    let client = client();
    let call = client.send(get(Target::Unix { path: dir.clone(), host: "localhost".into() }));
    let (_stream, incoming) = tokio::join!(server, call);
    assert_eq!(incoming.unwrap().collect(10).await.unwrap(), b"ok");
    std::fs::remove_file(&dir).unwrap();
    let gone = client.send(get(Target::Unix { path: dir, host: "localhost".into() })).await.err().unwrap();
    assert_eq!(gone.stage, Stage::Connect);
}

#[tokio::test]
async fn dropping_the_answer_closes_the_connection() {
    let (listener, target) = listen().await;
    let client = client();
    let (answered, incoming) =
        tokio::join!(answer(&listener, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"), client.send(get(target)));
    let (mut stream, mut incoming) = (answered.0, incoming.unwrap());
    assert_eq!(incoming.chunk().await.unwrap().unwrap(), "abc");
    drop(incoming);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "the server sees the end at once");
}

#[tokio::test]
async fn each_failure_names_its_stage() {
    for (bytes, stage) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"[..], Stage::Broken),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nabcdefghijkl", Stage::TooLarge),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/secret?k=v\r\nContent-Length: 0\r\n\r\n", Stage::Redirected),
        (b"SSH-2.0-OpenSSH_9\r\n", Stage::Broken),
        (b"", Stage::Broken),
    ] {
        let (listener, target) = listen().await;
        let server = async { drop(answer(&listener, bytes).await) };
        let call = async {
            match client().send(get(target)).await {
                Ok(incoming) => incoming.collect(10).await.err().unwrap(),
                Err(e) => e,
            }
        };
        let ((), e) = tokio::join!(server, call);
        assert_eq!(e.stage, stage, "{e:?}");
        assert!(!e.public.contains("secret") && !e.private.contains("secret"));
    }
    let (listener, target) = listen().await;
    drop(listener);
    assert_eq!(client().send(get(target)).await.err().unwrap().stage, Stage::Connect);
    let malformed = Outgoing { path_and_query: "x".into(), ..get(Target::Unix { path: "/nowhere".into(), host: "h".into() }) };
    assert_eq!(client().send(malformed).await.err().unwrap().stage, Stage::Request);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (listener, target) = listen().await;
    let mut bytes = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    bytes.resize(100 * 1024, b'a');
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The client hangs up in the middle.
        let _ = stream.write_all(&bytes).await;
    };
    let client = client();
    let ((), answer) = tokio::join!(server, client.send(get(target)));
    assert_eq!(answer.err().unwrap().stage, Stage::TooLarge);
}

#[tokio::test]
async fn silence_before_and_within_the_answer_ends_the_call() {
    let (listener, target) = listen().await;
    let short = Duration::from_millis(30);
    let silent = Outgoing { first_byte: short, ..get(target.clone()) };
    assert_eq!(client().send(silent).await.err().unwrap().stage, Stage::FirstByteTimeout);
    drop(listener.accept().await);
    let client = client();
    let stalling = Outgoing { between: short, ..get(target) };
    let (answered, incoming) = tokio::join!(answer(&listener, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), client.send(stalling));
    let mut incoming = incoming.unwrap();
    assert_eq!(incoming.chunk().await.unwrap().unwrap(), "abc");
    // Asking again and again does not extend the time.
    let end = loop {
        if let Ok(end) = timeout(Duration::from_millis(1), incoming.chunk()).await {
            break end;
        }
    };
    assert_eq!(end.err().unwrap().stage, Stage::StallTimeout);
    drop(answered);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn https_to_a_plain_server_is_a_tls_error() {
    let (listener, target) = listen().await;
    let Target::Url(url) = target else { return };
    let url = Url::parse(&format!("https://127.0.0.1:{}/", url.port())).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    };
    let client = client();
    let ((), answer) = tokio::join!(server, client.send(get(Target::Url(url))));
    assert_eq!(answer.err().unwrap().stage, Stage::Tls);
}
