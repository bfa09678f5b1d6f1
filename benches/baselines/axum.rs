//! The peer: the same routes on axum, as one would write them with it: typed bodies, its own serialisation, no middleware.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a baseline that goes wrong stops")]

mod common;
mod paths;
mod serving;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use common::{EVENT, News, PLAIN, echo, events, news};
use paths::{EVENTS, SEARCH, SOCKET};

/// Serves until killed.
fn main() {
    serving::listen(|listener| serve_on(listener, news()));
}

async fn serve_on(listener: TcpListener, news: News) {
    let routes = Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/api/sessions", get(sessions))
        .route("/api/chat", post(chat))
        .route(SEARCH, post(search))
        .route(EVENTS, get(follow))
        .route(SOCKET, get(socket))
        .with_state(news);
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    axum::serve(listener, routes).await.unwrap();
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: "0.1.0" })
}

#[derive(Serialize)]
struct Page {
    items: Vec<Health>,
    total: usize,
    page: usize,
    limit: usize,
}

async fn sessions() -> Json<Page> {
    Json(Page { items: Vec::new(), total: 0, page: 1, limit: 50 })
}

#[derive(Deserialize)]
struct Said {
    content: String,
}

#[derive(Serialize)]
struct Reply {
    echo: String,
}

async fn chat(Json(said): Json<Said>) -> Json<Reply> {
    Json(Reply { echo: said.content })
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "it is read, and that is all")]
struct Query {
    query: String,
}

async fn search(State(news): State<News>, Json(_): Json<Query>) -> Json<Page> {
    drop(news.send(Bytes::from_static(EVENT)));
    sessions().await
}

async fn page(headers: HeaderMap) -> Response {
    let response = Response::builder();
    if headers.contains_key(header::IF_NONE_MATCH) {
        return response.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap();
    }
    response.header(header::CONTENT_TYPE, "text/html").body(Body::from(PLAIN)).unwrap()
}

async fn follow(State(news): State<News>) -> Response {
    Response::builder().header(header::CONTENT_TYPE, "text/event-stream").body(Body::from_stream(events(&news))).unwrap()
}

async fn socket(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = echo(upgrade, request.headers());
    response
}
