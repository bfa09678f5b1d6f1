//! Echoes WebSocket messages through exactly the product's upgrade, limits, pings and close codes, so that protocol suites
//! can be run against them: `cargo run --release --example ws_echo -- ADDR:PORT`. The message limit here is 16 MiB.

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use oxios_edge::base::cancel::{self, Why};
use oxios_edge::http::connection::{Request, Service};
use oxios_edge::http::error::HttpError;
use oxios_edge::http::line::Line;
use oxios_edge::http::listener::{self, Listen, Listener};
use oxios_edge::http::ws::{self, Message, Options, Socket};
use oxios_edge::http::{Response, gate};
use oxios_edge::sys::signals::Stops;

/// What protocol suites send at most.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

struct Echo;

impl Service for Echo {
    fn call(self: Arc<Self>, request: Request, _line: Arc<Line>) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        Box::pin(async move { upgrade(request).unwrap_or_else(HttpError::into_response) })
    }
    fn refuse(&self, _line: &Line, error: HttpError) -> Response {
        error.into_response()
    }
}

fn upgrade(request: Request) -> Result<Response, HttpError> {
    let (mut head, _) = request.into_parts();
    gate::pass(&head)?;
    let options = Options { message_bytes_max: MESSAGE_BYTES_MAX, ..Options::default() };
    ws::upgrade(&head.headers, head.extensions.remove(), options, echo)
}

async fn echo(mut socket: Socket) {
    while let Ok(message) = socket.recv().await {
        let sent = match message {
            Message::Text(text) => socket.send(text).await,
            Message::Binary(bytes) => socket.send_binary(bytes).await,
        };
        if sent.is_err() {
            break;
        }
    }
    socket.end().await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(listen) = std::env::args().nth(1).as_deref().and_then(Listen::parse) else {
        eprintln!("usage: ws_echo ADDR:PORT | unix:/path");
        return ExitCode::from(2);
    };
    let (listener, mut stops) = match (Listener::bind(&listen), Stops::catch()) {
        (Ok(listener), Ok(stops)) => (listener, stops),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("listening on {}", listener.address());
    let (canceller, stop) = cancel::pair();
    tokio::join!(
        listener::serve(
            listener,
            listener::Settings { drain: std::time::Duration::from_secs(1), ..Default::default() },
            Arc::new(Echo),
            listener::Stop { draining: stop.clone(), drained: stop },
        ),
        async {
            stops.next().await;
            canceller.cancel(Why::Shutdown);
        }
    );
    ExitCode::SUCCESS
}
