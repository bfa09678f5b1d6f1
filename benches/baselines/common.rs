//! What the baselines have in common: the plain answer, a broadcast for readers of events, and an echo for WebSockets.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use oxios_edge::wire::ws_handshake;
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The plain answer.
pub(crate) const PLAIN: &[u8] = br#"{"status":"ok","version":"0.1.0"}"#;
/// One event, as long as one of the product's.
pub(crate) const EVENT: &[u8] = b"id: 00000000-0000-4000-8000-000000000000\n\
    data: {\"count\":0,\"id\":\"00000000-0000-4000-8000-000000000000\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"type\":\"memory_recalled\"}\n\n";

/// Where events go.
pub(crate) type News = broadcast::Sender<Bytes>;

/// To nobody yet.
pub(crate) fn news() -> News {
    broadcast::channel(1024).0
}

/// All events from now on.
pub(crate) fn events(news: &News) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
    unfold(news.subscribe(), async |mut reader| Some((Ok(reader.recv().await.ok()?), reader)))
}

/// The fields of the answer to a WebSocket's handshake; whatever is sent from then on is sent back.
pub(crate) fn echo(upgrade: OnUpgrade, asked: &HeaderMap) -> HeaderMap {
    let accept = ws_handshake::accept(asked).unwrap();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        // The product's buffers, so that what differs is the rest.
        let config = WebSocketConfig::default().read_buffer_size(oxios_edge::base::limits::WS_READ_BUFFER_BYTES).write_buffer_size(0);
        let mut frames = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        while let Some(Ok(message)) = frames.next().await {
            if frames.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut fields = HeaderMap::new();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).unwrap());
    fields
}
