//! Memory (API A7, B): list, keep, find, read, change, forget. The name of a memory is its id.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::api::{self, App, Call, Listed, blocking};
use crate::base::ids::{MemoryId, OwnerId};
#[cfg(test)]
use crate::base::limits::{MEMORY_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX};
use crate::base::limits::{PREVIEW_CHARS_MAX, QUERY_BYTES_MAX};
use crate::base::text;
use crate::base::time::Timestamp;
use crate::events::Kind;
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::memory::{Category, Change, Entry, Hit, NewEntry};

/// A memory to be kept.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NewMemory {
    /// The text; at most 32 KiB.
    #[cfg_attr(test, schemars(length(max = MEMORY_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    content: String,
    /// `fact` (also where it is absent), `episode` or `knowledge`.
    #[cfg_attr(test, schemars(regex(pattern = api::shapes::MEMORY_TYPE)))]
    memory_type: Option<String>,
    /// Words it is filed under; at most 16 of 64 bytes.
    #[cfg_attr(test, schemars(length(max = TAGS_MAX), inner(length(max = TAG_BYTES_MAX), regex(pattern = api::shapes::SAID))))]
    tags: Option<Vec<String>>,
    /// 0 to 1; 0.5 where it is absent.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0)))]
    importance: Option<f32>,
    /// Put before the model at the beginning of every run, as far as there is room.
    pinned: Option<bool>,
}

/// A memory was kept.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryCreated {
    /// Its id, which is its name.
    id: MemoryId,
    /// `created`.
    status: &'static str,
}

/// What is to be changed; what is absent or null stays.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryChange {
    /// The text; at most 32 KiB.
    #[cfg_attr(test, schemars(length(max = MEMORY_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    content: Option<String>,
    /// `fact`, `episode` or `knowledge`.
    #[cfg_attr(test, schemars(regex(pattern = api::shapes::MEMORY_TYPE)))]
    memory_type: Option<String>,
    /// In place of all that it had; at most 16 of 64 bytes.
    #[cfg_attr(test, schemars(length(max = TAGS_MAX), inner(length(max = TAG_BYTES_MAX), regex(pattern = api::shapes::SAID))))]
    tags: Option<Vec<String>>,
    /// 0 to 1.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0)))]
    importance: Option<f32>,
    /// Put before the model at the beginning of every run, as far as there is room.
    pinned: Option<bool>,
}

/// What is looked for.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryQuery {
    /// A question or words; at most 4 KiB.
    #[cfg_attr(test, schemars(length(max = QUERY_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    query: String,
    /// Only `fact`, `episode` or `knowledge`.
    #[cfg_attr(test, schemars(regex(pattern = api::shapes::MEMORY_TYPE)))]
    memory_type: Option<String>,
    /// Most entries of the answer: 10 where it is absent, at most 50.
    limit: Option<usize>,
}

/// A memory in a list.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryItem {
    /// Its name.
    name: MemoryId,
    /// `facts`, `episodes` or `knowledge`.
    category: &'static str,
    /// How it begins, with … where it goes on.
    preview: String,
    /// Words it is filed under.
    tags: Vec<String>,
    /// 0 to 1.
    importance: f32,
    /// It stands before the model in every run.
    pinned: bool,
    /// When it was made.
    created_at: Timestamp,
}

/// Memories, newest first.
pub(crate) type MemoryPage = Listed<MemoryItem>;

/// One memory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryDetail {
    /// Its id.
    id: MemoryId,
    /// The same.
    name: MemoryId,
    /// `facts`, `episodes` or `knowledge`.
    category: &'static str,
    /// The text.
    content: String,
    /// Words it is filed under.
    tags: Vec<String>,
    /// 0 to 1.
    importance: f32,
    /// It stands before the model in every run.
    pinned: bool,
    /// When it was made.
    created_at: Timestamp,
    /// When it was last changed; null where it never was.
    updated_at: Option<Timestamp>,
}

/// A memory that was found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryHit {
    /// Its id, which is its name.
    id: MemoryId,
    /// `fact`, `episode` or `knowledge`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The text.
    content: String,
    /// Words it is filed under.
    tags: Vec<String>,
    /// 0 to 1.
    importance: f32,
    /// When it was made.
    created_at: Timestamp,
}

/// What was found by words, best first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryFound {
    /// How many.
    count: usize,
    /// The memories.
    entries: Vec<MemoryHit>,
}

/// A memory that was found by meaning.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryNear {
    #[serde(flatten)]
    hit: MemoryHit,
    /// Where an embedding model ranked: the cosine of query and content, -1 to 1, or null for a content that has no vector yet.
    /// Where words alone ranked: how much of the query it holds (BM25 against the most that is possible), 0 to 1.
    similarity: Option<f64>,
    /// 1 - similarity.
    distance: Option<f64>,
}

/// What was found by meaning, best first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryRanked {
    /// How many.
    count: usize,
    /// The memories.
    entries: Vec<MemoryNear>,
    /// What ranked: `bm25`, or `bm25+embeddings:<model>`, both fused by reciprocal rank.
    engine: String,
    /// An embedding model is set and could not be used, so that words alone ranked.
    degraded: bool,
}

/// A memory is gone.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemoryDeleted {
    /// `deleted`.
    status: &'static str,
    /// Its name.
    name: MemoryId,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<NewMemory>("NewMemory");
    all.takes::<MemoryChange>("MemoryChange");
    all.takes::<MemoryQuery>("MemoryQuery");
    all.answers::<MemoryCreated>("MemoryCreated");
    all.answers::<MemoryPage>("MemoryPage");
    all.answers::<MemoryDetail>("MemoryDetail");
    all.answers::<MemoryFound>("MemoryFound");
    all.answers::<MemoryRanked>("MemoryRanked");
    all.answers::<MemoryDeleted>("MemoryDeleted");
}

/// `GET /api/memory`: newest first.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, page) = (app.memory.clone(), call.caller()?.owner(), call.page()?);
    let (entries, total) = blocking(move || room.list(owner, page.skip(), page.limit)).await?;
    let shown: MemoryPage = page.part(entries.into_iter().map(item).collect(), total);
    api::json(&shown)
}

/// `POST /api/memory`.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, new) = (app.memory.clone(), call.caller()?.owner(), call.json::<NewMemory>()?);
    let new = NewEntry {
        category: category(new.memory_type.as_deref())?.unwrap_or(Category::Facts),
        content: new.content,
        tags: new.tags.unwrap_or_default(),
        importance: new.importance.unwrap_or(0.5),
        pinned: new.pinned.unwrap_or(false),
    };
    let id = blocking(move || room.add(owner, new)).await?.id;
    stored(&app, owner, id);
    api::json(&MemoryCreated { id, status: "created" })
}

/// `POST /api/memory/search`: by words alone.
pub(crate) async fn search(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, query) = (app.memory.clone(), call.caller()?.owner(), call.json::<MemoryQuery>()?);
    let (category, limit) = query.check()?;
    let hits = blocking(move || room.search(owner, &query.query, category, limit)).await?;
    recalled(&app, owner, hits.len());
    let entries: Vec<_> = hits.into_iter().map(hit).collect();
    api::json(&MemoryFound { count: entries.len(), entries })
}

/// `POST /api/memory/semantic`: by words and, where an embedding model is set, by meaning.
pub(crate) async fn semantic(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, query) = (call.caller()?.owner(), call.json::<MemoryQuery>()?);
    let (category, limit) = query.check()?;
    let ranked = app.memory.semantic(owner, &query.query, category, limit).await?;
    recalled(&app, owner, ranked.hits.len());
    let near = |found: Hit| MemoryNear { similarity: found.similarity, distance: found.similarity.map(|s| 1.0 - s), hit: hit(found) };
    let entries: Vec<_> = ranked.hits.into_iter().map(near).collect();
    api::json(&MemoryRanked { count: entries.len(), entries, engine: ranked.engine, degraded: ranked.unavailable })
}

/// `GET /api/memory/{name}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.memory.clone(), call.caller()?.owner(), name(&call)?);
    let entry = blocking(move || room.find(owner, id)).await?;
    api::json(&show(entry))
}

/// `PATCH /api/memory/{name}`.
pub(crate) async fn change(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.memory.clone(), call.caller()?.owner(), name(&call)?);
    let MemoryChange { content, memory_type, tags, importance, pinned } = call.json()?;
    let change = Change { category: category(memory_type.as_deref())?, content, tags, importance, pinned };
    let entry = blocking(move || room.change(owner, id, change)).await?;
    stored(&app, owner, id);
    api::json(&show(entry))
}

/// `DELETE /api/memory/{name}`.
pub(crate) async fn delete(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.memory.clone(), call.caller()?.owner(), name(&call)?);
    blocking(move || room.remove(owner, id)).await?;
    api::json(&MemoryDeleted { status: "deleted", name: id })
}

impl MemoryQuery {
    fn check(&self) -> Result<(Option<Category>, usize), HttpError> {
        if self.query.trim().is_empty() || self.query.len() > QUERY_BYTES_MAX {
            return Err(HttpError::bad_request(format!("`query` must not be empty, and have at most {QUERY_BYTES_MAX} bytes")));
        }
        Ok((category(self.memory_type.as_deref())?, self.limit.unwrap_or(10)))
    }
}

fn category(memory_type: Option<&str>) -> Result<Option<Category>, HttpError> {
    let unknown = || HttpError::bad_request("`memory_type` must be fact, episode or knowledge");
    memory_type.map(|kind| Category::from_type(kind).ok_or_else(unknown)).transpose()
}

/// What is no id is the name of nothing.
fn name(call: &Call) -> Result<MemoryId, HttpError> {
    MemoryId::parse(call.param("name")).map_err(|_| HttpError::not_found("no such memory"))
}

fn item(entry: Entry) -> MemoryItem {
    let Entry { id, category, content, tags, importance, pinned, created_at, .. } = entry;
    let preview = text::shown(&content, PREVIEW_CHARS_MAX);
    MemoryItem { name: id, category: category.name(), preview, tags, importance, pinned, created_at }
}

fn show(entry: Entry) -> MemoryDetail {
    let Entry { id, owner: _, category, content, tags, importance, pinned, created_at, updated_at } = entry;
    MemoryDetail { id, name: id, category: category.name(), content, tags, importance, pinned, created_at, updated_at }
}

fn hit(hit: Hit) -> MemoryHit {
    let Entry { id, category, content, tags, importance, created_at, .. } = hit.entry;
    MemoryHit { id, kind: category.memory_type(), content, tags, importance, created_at }
}

fn stored(app: &App, owner: OwnerId, id: MemoryId) {
    app.events.publish(owner, Kind::MemoryStored, Map::from_iter([("memory_id".to_owned(), id.to_string().into())]));
}

fn recalled(app: &App, owner: OwnerId, count: usize) {
    app.events.publish(owner, Kind::MemoryRecalled, Map::from_iter([("count".to_owned(), count.into())]));
}
