//! Floor 8: the whole path of one request, on one page.
//!
//! [`Pipeline::handle`] is the shell: request id, panic, access log, fields of every answer. [`Pipeline::route`] is the
//! straight line inside it: each step may refuse, in the order that API A1 fixes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use hyper::Method;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use crate::api::router::{Found, Router, allow_value};
use crate::api::routes::{Access, Entry, ROUTES, RateClass, Route};
use crate::api::{App, Call, Empty, site, v1};
use crate::base::ids::RequestId;
use crate::base::live::Live;
use crate::base::log;
use crate::base::metrics::Present;
use crate::http::connection::{Request, Service};
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::line::Line;
use crate::http::listener::{self, Listener, Stop};
use crate::http::peer::PeerKey;
use crate::http::proxies::TrustedProxies;
use crate::http::{Body, Response, gate};
use crate::middleware::access_log::{self, AccessLog};
use crate::middleware::auth::{self, Caller, End, Holder, Presented};
use crate::middleware::ends::{Ends, Watches};
use crate::middleware::host;
use crate::middleware::intake::Intake;
use crate::middleware::origin::{self, Asked, Listed};
use crate::middleware::rate::{Pace, Payer, Rates};
use crate::middleware::recorded::Recorded;
use crate::middleware::request_id::RequestIds;
use crate::middleware::settings::Settings;
use crate::store::audit::{What, Who};
use crate::wire::query::Query;
use crate::wire::ws_handshake;

/// Serves until `app.shutdown`, then drains: requests that run get `limits.drain`, who comes meanwhile gets one answer, and when
/// all is done it returns.
pub async fn serve(listener: Listener, app: Arc<App>, settings: Arc<Live<Settings>>, limits: listener::Settings) {
    let pipeline = match Pipeline::new(app.clone(), settings, &limits) {
        Ok(pipeline) => Arc::new(pipeline),
        // A test builds the router, so this is never seen.
        Err(error) => return log::error("http", format_args!("the route table is wrong: {error}")),
    };
    let served = listener::serve(listener, limits, pipeline.clone(), Stop { draining: app.shutdown.clone(), drained: app.drained.clone() });
    // Both run beside the server and end with it.
    tokio::select! {
        () = served => {}
        () = pipeline.watches.look(|holder| pipeline.may_go_on(holder)) => {}
        () = pipeline.log.run() => {}
    }
    pipeline.log.flush();
}

/// What every request passes.
pub struct Pipeline {
    app: Arc<App>,
    settings: Arc<Live<Settings>>,
    router: Router,
    rates: Arc<Rates>,
    watches: Arc<Watches>,
    ids: RequestIds,
    log: Arc<AccessLog>,
    trusted_proxies: TrustedProxies,
}

impl Pipeline {
    fn new(app: Arc<App>, settings: Arc<Live<Settings>>, limits: &listener::Settings) -> Result<Self, String> {
        Ok(Self {
            settings,
            router: Router::new(ROUTES)?,
            rates: Arc::new(Rates::new()),
            watches: Watches::new(app.drained.clone()),
            ids: RequestIds::new(app.random.clone()),
            log: AccessLog::new(app.clock.clone()),
            trusted_proxies: limits.trusted_proxies.clone(),
            app,
        })
    }

    /// What this holder was let in for may go on.
    fn may_go_on(&self, holder: Holder) -> bool {
        let app = &self.app;
        auth::may_go_on(&*app.keys, &app.logins, self.settings.load().auth_enabled, holder, app.clock.now())
    }

    /// The shell around one request: whatever happens inside, there is one answer and one line in the access log.
    async fn handle(&self, request: Request, line: Arc<Line>) -> Response {
        let request_id = self.ids.next();
        let (head, body) = request.into_parts();
        // An OpenAI client reads the errors of its own API only, whoever refuses.
        let answer =
            if is_beneath("/v1", beneath(&self.app.base_path, head.uri.path())) { v1::error::response } else { HttpError::into_response };
        // Written when dropped: also where the client vanishes and this future with it.
        let mut entry = self.log.begin(request_id, &head.method, line.peer().ip());
        let is_head = head.method == Method::HEAD;
        let mut intake = Intake::new(body);
        let (mut listed, mut place) = (None, ROUTES.len());
        let seen = Seen { request_id, entry: &mut entry, listed: &mut listed, place: &mut place };
        let result = caught(self.route(head, &mut intake, &line, seen)).await;
        let mut response = match result {
            Some(Ok(response)) => response,
            Some(Err(error)) => refuse(error, request_id, &mut entry, answer),
            None => refuse(HttpError::internal("a request panicked").code("panic"), request_id, &mut entry, answer),
        };
        if intake.is_unread() {
            // Nobody will read the rest, so nothing can follow it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        finish(&mut response, request_id, listed);
        self.count(place, &response, &entry);
        logged(response, entry, is_head, &self.app)
    }

    /// One answer of a row (its place in the table; the last one is no row).
    fn count(&self, place: usize, response: &Response, entry: &access_log::Entry) {
        let Some(counts) = self.app.metrics.routes.get(place) else { return };
        if let Some(class) = counts.classes.get(usize::from(response.status().as_u16() / 100).saturating_sub(1)) {
            class.one();
        }
        counts.took.took(entry.age());
    }

    /// The straight line: each step may refuse. The order is API A1's; a test pins it.
    async fn route(&self, mut head: Parts, intake: &mut Intake, line: &Line, seen: Seen<'_>) -> Result<Response, HttpError> {
        let (settings, peer, now) = (self.settings.load(), line.peer(), seen.entry.started);
        // Whom it comes from: the other end, or whom a trusted proxy names. A stranger's word about that is not looked at.
        let proxied = self.trusted_proxies.trusts(peer);
        let client = if proxied { self.trusted_proxies.client(&head.headers) } else { None };
        let from = client.map_or_else(|| peer.key(), PeerKey::of);
        if client.is_some() {
            seen.entry.peer = client;
        }

        // 1. Bytes that two readers could take for two things: 400 or 414, and the connection ends.
        let host = gate::pass(&head)?;

        // 2. A name that is not ours: 421.
        host::check(host, peer, &settings.allowed_hosts)?;

        // 3. A page of another origin: 403. A listed one may ask beforehand.
        let upgrade = ws_handshake::is_asked_for(&head.headers);
        let asked = Asked { method: &head.method, headers: &head.headers, host, proxied, upgrade };
        *seen.listed = origin::check(&asked, &settings.cors_origins)?;
        if seen.listed.is_some() && origin::is_preflight(&asked) {
            return Ok(origin::preflight(&asked));
        }

        // 4. Who calls: 401, or 429 for the eleventh wrong credential. What the path leads to is looked up before, since
        //    the row says which credentials count, and told after: without a key nothing tells which paths exist.
        let path = beneath(&self.app.base_path, head.uri.path());
        let found = self.router.find(&head.method, path);
        let row = match &found {
            Found::Route(route, _) => Some(*route),
            Found::OtherMethod(_) | Found::Nothing => None,
        };
        let query = head.uri.query().map_or(Ok(Query::default()), Query::parse);
        let public = settings.metrics_public && row.is_some_and(|row| row.path == METRICS);
        // Whose key is good no more keeps no place among the known; a proxy's connection is its clients' in turn.
        let leaves = |error: HttpError| if line.is_known() && !proxied { error.closing() } else { error };
        let caller = if public || is_open(row, path) {
            None
        } else {
            let no_query = Query::default();
            let entry = row.map_or(Entry::Header, |row| row.entry);
            let shown = Presented {
                headers: &head.headers,
                query: query.as_ref().unwrap_or(&no_query),
                ticket: entry != Entry::Header,
                cookie: &|| origin::takes_cookies(&asked),
                token: entry == Entry::Socket && settings.query_token.allows(peer.is_loopback() && !proxied),
                peer: from,
                now,
                time: self.app.clock.now(),
            };
            let tables = (&*self.app.tickets, &*self.app.logins);
            let caller = self.app.doorkeeper.admit(&*self.app.keys, tables, settings.auth_enabled, &shown).map_err(leaves)?;
            line.known();
            seen.entry.key = caller.shown();
            Some(caller)
        };

        // 5. What is called: 404, 405. What is no API path is one of the page.
        let (row, values) = match found {
            Found::Route(row, values) => (row, values),
            Found::OtherMethod(allow) => return Err(other_method(allow)),
            Found::Nothing if !is_open(None, path) => return Err(HttpError::not_found("there is nothing at this path")),
            Found::Nothing => {
                seen.entry.route = "page";
                return match path {
                    "" => Ok(site::slash(&self.app.base_path)),
                    path => site::answer(&self.app, &head.method, &head.headers, path).await,
                };
            }
        };
        seen.entry.route = row.path;
        *seen.place = row.place();
        // RFC 6455 §4.1: the handshake is a GET.
        if upgrade && row.entry == Entry::Socket && head.method == Method::HEAD {
            return Err(other_method("GET"));
        }

        // 6. What the key may do: 403.
        match (row.access, &caller) {
            (Access::Scopes(scopes), Some(caller)) => scopes.iter().try_for_each(|scope| auth::require(caller, *scope))?,
            (Access::Key, Some(_)) | (Access::Public, _) => {}
            (Access::Scopes(_), None) if public => {}
            (Access::Scopes(_) | Access::Key, None) => return Err(HttpError::internal("a closed row was reached without a caller")),
        }

        // 7. How often: 429.
        let own = caller.as_ref().and_then(Caller::rate_limit_per_minute);
        let payer = caller.as_ref().map_or(Payer::Peer(from), |caller| Payer::Key(caller.key_id()));
        if row.class == RateClass::Counted {
            self.rates.take(payer, own.unwrap_or(settings.rate_limit_per_minute), now)?;
        }

        // 8. The body: 413 declared or while it is read, 408 for one that does not come; 401 where the key was revoked, or ran out,
        //    meanwhile: a body takes as long as its sender likes. Then what else is malformed: 400.
        let begun = intake.is_unread();
        let body = intake.read(&head.headers, row.body_max).await?;
        if begun && caller.as_ref().is_some_and(|caller| !self.may_go_on(caller.holder())) {
            return Err(leaves(auth::ended(End::Revoked)));
        }
        let query = query.map_err(|_| HttpError::bad_request("the query is not well formed"))?;
        let params = values.decode()?;

        // 9. What may change something is recorded, before it is done where it cannot be taken back: 507, 503.
        let who = Who { owner: caller.as_ref().map(Caller::owner), key: caller.as_ref().and_then(Caller::shown) };
        let what = What::Request(row.method.as_str(), row.path);
        let recorded = Recorded::begin(&self.app.audit, row.recording(), who, what, params.first()).await?;

        // 10. The handler, with the evidence of all that: 415, 400, 422 as it reads the body, then its own.
        let ends = Ends::new(caller.as_ref().map(Caller::holder), self.watches.clone());
        let call = Call {
            caller,
            params,
            query,
            upgrade: head.extensions.remove(),
            headers: head.headers,
            body,
            request_id: seen.request_id,
            peer: from,
            proxied,
            ends,
            pace: Pace::new(self.rates.clone(), self.settings.clone(), self.app.clock.clone(), payer, own),
        };
        let nothing = if row.takes == Empty::NAME { call.nothing() } else { Ok(()) };
        let result = match nothing {
            Ok(()) => (row.handler)(self.app.clone(), call).await,
            Err(error) => Err(error),
        };
        if let Some(recorded) = recorded {
            recorded.end(result.as_ref().map_or_else(|error| error.status.code(), Response::status).as_u16());
        }
        result
    }
}

impl Service for Pipeline {
    fn call(self: Arc<Self>, request: Request, line: Arc<Line>) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        // Not made smaller by pinning its parts in place: what is freed of it then has no room for the next connection's task, and each
        // connection takes a kilobyte more.
        Box::pin(async move { self.handle(request, line).await })
    }

    fn refuse(&self, line: &Line, error: HttpError) -> Response {
        let request_id = self.ids.next();
        // No request was read, so no method is known.
        let mut entry = self.log.begin(request_id, &Method::TRACE, line.peer().ip());
        let mut response = refuse(error, request_id, &mut entry, HttpError::into_response);
        finish(&mut response, request_id, None);
        entry.complete = true;
        self.count(ROUTES.len(), &response, &entry);
        response
    }
}

/// What the line tells the shell.
struct Seen<'a> {
    request_id: RequestId,
    entry: &'a mut access_log::Entry,
    /// The calling page is listed and may read the answer, whatever it is.
    listed: &'a mut Option<Listed>,
    /// The row's place in the table.
    place: &'a mut usize,
}

/// The one row that may be opened by the configuration.
const METRICS: &str = "/metrics";

/// Needs no credential: a public row, or no API path at all, which is one of the page.
fn is_open(row: Option<&Route>, path: &str) -> bool {
    match row {
        Some(row) => row.access == Access::Public,
        None => !["/api", "/v1", "/mcp", METRICS].iter().any(|api| is_beneath(api, path)),
    }
}

/// The path without `gateway.base_path`, where it has it: a proxy in front takes it away or leaves it.
fn beneath<'p>(base: &str, path: &'p str) -> &'p str {
    path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path)
}

/// This path, or one below it.
fn is_beneath(above: &str, path: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn other_method(allow: &str) -> HttpError {
    HttpError::new(ErrorStatus::MethodNotAllowed, "method", format!("this path takes {allow}")).header(header::ALLOW, allow_value(allow))
}

/// An error as an answer; what is private goes to the log.
fn refuse(error: HttpError, request_id: RequestId, entry: &mut access_log::Entry, answer: fn(HttpError) -> Response) -> Response {
    entry.code = error.code;
    entry.status = error.status.code().as_u16();
    if let Some(private) = &error.private {
        let code = error.code;
        log::error("http", format_args!("{code}: {private} (request {request_id})"));
    }
    answer(error)
}

/// The fields of every answer.
fn finish(response: &mut Response, request_id: RequestId, listed: Option<Listed>) {
    let headers = response.headers_mut();
    let mut text = [0; 36];
    uuid::Uuid::from_bytes(*request_id.as_bytes()).hyphenated().encode_lower(&mut text);
    if let Ok(value) = HeaderValue::from_bytes(&text) {
        headers.insert(const { HeaderName::from_static("x-request-id") }, value);
    }
    // Nobody guesses another type than the one that is written, and nobody keeps answers for the next user.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, const { HeaderValue::from_static("nosniff") });
    headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    if let Some(listed) = listed {
        origin::allow(listed, headers);
    }
}

/// The answer's line is written now where the answer is whole, else when its stream has ended. To a HEAD no body leaves.
fn logged(response: Response, mut entry: access_log::Entry, is_head: bool, app: &App) -> Response {
    entry.status = response.status().as_u16();
    match if is_head { Some(0) } else { response.body().len() } {
        Some(len) => {
            (entry.bytes, entry.complete) = (len, true);
            response
        }
        None => {
            let _present = app.metrics.streams.enter();
            response.map(|body| Body::stream(Logged { body, entry, _present }))
        }
    }
}

/// A stream that counts what leaves; its entry is written when it ends or its client is gone.
struct Logged {
    body: Body,
    entry: access_log::Entry,
    _present: Present,
}

impl Stream for Logged {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(hyper::body::Body::poll_frame(Pin::new(&mut self.body), cx));
        Poll::Ready(match next {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                self.entry.bytes += data.len() as u64;
                Some(Ok(data))
            }
            Some(Err(error)) => Some(Err(error)),
            None => {
                self.entry.complete = true;
                None
            }
        })
    }
}

/// The output of a future, or nothing where it panicked: one request's panic is its own affair (THREATS 15).
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // What the future held is dropped with it; locks of ours are taken without regard to poison.
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::settings::QueryToken;

    #[tokio::test]
    async fn a_panic_is_caught_and_nothing_else() {
        assert_eq!(caught(async { 5 }).await, Some(5));
        let panics = async {
            if true {
                panic!("one request")
            }
        };
        assert_eq!(caught(panics).await, None);
    }

    #[test]
    fn the_base_path_may_be_there_or_not() {
        for (base, path, rest) in [
            ("", "/api", "/api"),
            ("", "", ""),
            ("/ox", "/ox/api", "/api"),
            ("/ox", "/ox", ""),
            ("/ox", "/ox/", "/"),
            ("/ox", "/oxen", "/oxen"),
            ("/ox", "/api", "/api"),
            ("/ox", "/ox/ox/x", "/ox/x"),
        ] {
            assert_eq!(beneath(base, path), rest, "{base} {path}");
        }
    }

    #[test]
    fn only_api_paths_hide_behind_a_key() {
        for (path, open) in [("/", true), ("/assets/x", true), ("/apix", true), ("/api", false), ("/api/x", false), ("/v1/models", false)] {
            assert_eq!(is_open(None, path), open, "{path}");
        }
        for row in ROUTES {
            assert_eq!(is_open(Some(row), row.path), ["/health", "/health/ready", "/api/login"].contains(&row.path), "{}", row.path);
        }
    }

    /// The order of API A1, as the line is written. What each step does is tested where it lives.
    #[test]
    fn the_steps_stand_in_the_order_of_the_contract() {
        let line = include_str!("pipeline.rs").split("async fn route(").nth(1).unwrap();
        let steps = [
            "gate::pass(",
            "host::check(",
            "origin::check(",
            "doorkeeper.admit(",
            "HttpError::not_found(",
            "auth::require(",
            "self.rates.take(",
            "intake.read(",
            "Recorded::begin(",
            "(row.handler)(",
        ];
        let places: Vec<_> = steps.iter().map(|step| line.find(step).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn the_query_token_is_for_those_who_are_here() {
        for (setting, local, remote) in
            [(QueryToken::Loopback, true, false), (QueryToken::Always, true, true), (QueryToken::Never, false, false)]
        {
            assert_eq!((setting.allows(true), setting.allows(false)), (local, remote), "{setting:?}");
        }
    }
}
