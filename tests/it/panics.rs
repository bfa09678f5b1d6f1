//! One request's panic is its own affair (THREATS 15, CVE-2026-31949): the server in this process, over a disk that panics when told.

use std::sync::Arc;

use oxios_edge::app::{self, Setup};
use oxios_edge::base::cancel::{self, Why};
use oxios_edge::config::Config;
use oxios_edge::http::listener::{Listen, Listener};
use oxios_edge::sys::fault_disk::FaultDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::client::PATIENCE;
use crate::support::server::TempDir;

#[tokio::test]
async fn a_panic_in_one_request_is_answered_with_500_and_ends_nothing_else() {
    let home = TempDir::new();
    let disk = FaultDisk::new();
    let mut setup = Setup::new(&Config::from_text(home.path(), "", &Default::default(), &[]).unwrap());
    setup.seams.disk = Arc::new(disk.clone());
    let listener = Listener::bind(&Listen::parse("127.0.0.1:0").unwrap()).unwrap();
    let address = listener.address().strip_prefix("http://").unwrap().to_owned();
    let (stop, shutdown) = cancel::pair();
    let (tell, ready) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(app::serve(setup, listener, shutdown, move |_| tell.send(()).unwrap()));
    ready.await.unwrap();

    let key = std::fs::read_to_string(home.path().join("token")).unwrap();
    let ask = format!("GET /api/sessions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", key.trim());
    let mut same = tokio::net::TcpStream::connect(&address).await.unwrap();
    let mut other = tokio::net::TcpStream::connect(&address).await.unwrap();
    assert_eq!(status(&mut same, &ask).await, 200);
    assert_eq!(status(&mut other, &ask).await, 200);
    // Whether the keys have changed is looked up within each request.
    disk.panic_at("keys.json");
    assert_eq!(status(&mut same, &ask).await, 500);
    assert_eq!(status(&mut other, &ask).await, 200, "another connection goes on");
    assert_eq!(status(&mut same, &ask).await, 200, "and so does the same one");
    stop.cancel(Why::Shutdown);
    drop((same, other));
    server.await.unwrap().unwrap();
}

/// The status of the next answer, which is short.
async fn status(socket: &mut tokio::net::TcpStream, ask: &str) -> u16 {
    socket.write_all(ask.as_bytes()).await.unwrap();
    let (status, headers, mut left) = crate::support::client::read_head(socket, "an answer").await;
    let length: usize = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    while left.len() < length {
        assert!(tokio::time::timeout(PATIENCE, socket.read_buf(&mut left)).await.unwrap().unwrap() > 0);
    }
    status
}
