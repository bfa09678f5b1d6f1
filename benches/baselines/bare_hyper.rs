//! The baseline: a bare hyper server with the same runtime flavour and profile, and nothing of ours.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a baseline that goes wrong stops")]

mod common;
mod paths;
mod serving;

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use common::{EVENT, News, PLAIN, echo, events, news};
use paths::{EVENTS, SEARCH, SOCKET};

/// Without an end only where somebody reads events.
type Body = Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>>;

/// Serves until killed.
fn main() {
    serving::listen(|listener| serve_on(listener, news()));
}

async fn serve_on(listener: TcpListener, news: News) {
    loop {
        // Under attack, accepting may fail for one connection, or for want of descriptors.
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let news = news.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, news.clone()));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await;
        });
    }
}

/// Reads the body and keeps nothing of it, answers a small JSON object; but for readers of events, WebSockets, and whoever has the page.
async fn answer(mut request: Request<Incoming>, news: News) -> Result<Response<Body>, Infallible> {
    match request.uri().path() {
        EVENTS => {
            let frames: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(events(&news).map(|event| event.map(Frame::data)));
            return Ok(typed(Either::Right(StreamBody::new(frames)), "text/event-stream"));
        }
        SOCKET => {
            let upgrade = hyper::upgrade::on(&mut request);
            let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
            *response.headers_mut() = echo(upgrade, request.headers());
            return Ok(response);
        }
        SEARCH => drop(news.send(Bytes::from_static(EVENT))),
        _ if request.headers().contains_key(header::IF_NONE_MATCH) => return Ok(status(StatusCode::NOT_MODIFIED)),
        _ => {}
    }
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(typed(Either::Left(Full::new(Bytes::from_static(PLAIN))), "application/json"))
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

fn typed(body: Body, media: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
