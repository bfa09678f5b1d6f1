//! Looking for words in an owner's sessions: a bounded reading of their logs, newest first.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::ids::{OwnerId, SessionId, SpaceId};
use crate::base::limits::{CITED_CHARS_MAX, IMPORT_BYTES_MAX, PAGE_MAX, QUERY_WORDS_MAX, SEARCH_MILLIS_MAX, SESSION_SEARCH_BYTES_MAX};
use crate::base::log;
use crate::store::StoreError;
use crate::store::core::Core;
use crate::store::import;
use crate::store::lines::Forward;
use crate::store::session::blocking;
use crate::store::sessions::{Page, SessionItem, Sessions};
use crate::sys::disk::{Open, read_whole};
use crate::wire::words;

/// A line of the listing, and what was found.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SessionFound"))]
pub struct Found {
    /// The session.
    #[serde(flatten)]
    pub item: SessionItem,
    /// Of a search: the first words around what was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Each must begin a word of the session's title, messages or answers; at most [`QUERY_WORDS_MAX`] count. None: all sessions.
    pub words: Vec<String>,
    /// Only sessions that are held there.
    pub space_id: Option<SpaceId>,
}

impl Sessions {
    /// One page of what fits, newest first; `true` where the search was ended by its limits of bytes and time, and older sessions
    /// were not looked into. `page` from 1, `limit` at most 500.
    pub async fn search(&self, owner: OwnerId, wanted: Wanted, page: usize, limit: usize) -> Result<(Page<Found>, bool), StoreError> {
        self.ensure_built(|| false).await?;
        let turn = self.searching.clone().lock_owned().await;
        let core = self.core.clone();
        let (page, limit) = (page.max(1), limit.min(PAGE_MAX));
        blocking(move || {
            let _turn = turn;
            core.index.settle(&core);
            let first = (page - 1).saturating_mul(limit);
            let mut search = Search::of(&core, wanted.words);
            let (mut items, mut total) = (Vec::new(), 0);
            for id in core.index.ids(owner, wanted.space_id) {
                let here = total >= first && items.len() < limit;
                if search.words.is_empty() {
                    items.extend(here.then(|| core.index.item(owner, id)).flatten().map(|item| Found { item, snippet: None }));
                    total += 1;
                    continue;
                }
                let Some(item) = core.index.item(owner, id) else { continue };
                match search.look(id, &item.title) {
                    Ok(Some(snippet)) => {
                        if here {
                            items.push(Found { item, snippet: Some(snippet) });
                        }
                        total += 1;
                    }
                    Ok(None) => {}
                    // Deleted meanwhile, or unreadable: the others are still found.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => log::warn("store", format_args!("session {id} not searched: {e}")),
                }
                if search.cut {
                    break;
                }
            }
            Ok((Page { items, total, page, limit }, search.cut))
        })
        .await
    }
}

/// A search under way.
struct Search<'a> {
    core: &'a Core,
    words: Vec<String>,
    /// Bytes that may still be read.
    left: u64,
    until: Duration,
    cut: bool,
}

/// What one session has of the words, as bits.
#[derive(Default)]
struct Seen {
    all: u32,
    /// Of the text that has most of them.
    best: u32,
    snippet: String,
}

/// What is looked at of a record.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

impl<'a> Search<'a> {
    fn of(core: &'a Core, mut words: Vec<String>) -> Self {
        words.truncate(QUERY_WORDS_MAX);
        let until = core.home.seams().clock.monotonic() + Duration::from_millis(SEARCH_MILLIS_MAX);
        Self { core, words, left: SESSION_SEARCH_BYTES_MAX, until, cut: false }
    }

    /// What to cite, if every word is there.
    fn look(&mut self, id: SessionId, title: &str) -> io::Result<Option<String>> {
        let mut seen = Seen { all: self.bits(title), ..Seen::default() };
        match self.core.disk().open(&self.core.files.log(id), Open::Read) {
            Ok(file) => {
                let mut lines = Forward::new(file.as_ref(), 0, file.len()?);
                while let Some(found) = lines.next()? {
                    if seen.best.count_ones() as usize == self.words.len() || !self.pay(found.end - found.at) {
                        break;
                    }
                    let Some(said) = found.json.and_then(|json| serde_json::from_slice::<Said>(json).ok()) else { continue };
                    match said.kind.as_ref() {
                        "message" => self.read(&mut seen, &said.content.unwrap_or_default()),
                        "done" | "failed" | "cancelled" | "interrupted" => self.read(&mut seen, &said.text.unwrap_or_default()),
                        _ => {}
                    }
                }
            }
            // It has only its `.json` so far.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let path = self.core.files.json(id);
                let size = self.core.disk().stat(&path)?.map_or(0, |stat| stat.size);
                if size <= IMPORT_BYTES_MAX && self.pay(size) {
                    if let Ok(old) = import::parse(&read_whole(self.core.disk(), &path, IMPORT_BYTES_MAX)?) {
                        old.texts().for_each(|text| self.read(&mut seen, text));
                    }
                }
            }
            Err(e) => return Err(e),
        }
        if seen.all.count_ones() as usize != self.words.len() {
            return Ok(None);
        }
        Ok(Some(if seen.best == 0 { title.to_owned() } else { seen.snippet }))
    }

    fn read(&self, seen: &mut Seen, text: &str) {
        let here = self.bits(text);
        if here.count_ones() > seen.best.count_ones() {
            seen.best = here;
            seen.snippet = words::around(text, &self.words, CITED_CHARS_MAX);
        }
        seen.all |= here;
    }

    /// Which of the words this text has.
    fn bits(&self, text: &str) -> u32 {
        let mut bits = 0;
        words::each(text, |word| {
            for (n, wanted) in self.words.iter().enumerate() {
                if word.starts_with(wanted.as_str()) {
                    bits |= 1 << n;
                }
            }
        });
        bits
    }

    /// These bytes may be read.
    fn pay(&mut self, bytes: u64) -> bool {
        let late = self.core.home.seams().clock.monotonic() >= self.until;
        self.cut |= late || bytes > self.left;
        self.left = self.left.saturating_sub(bytes);
        !self.cut
    }
}
