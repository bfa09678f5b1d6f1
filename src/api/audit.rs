//! The audit log over HTTP (API B). A caller sees the records of its own owner; whether the chain is whole is told of all of it.

use std::sync::Arc;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use crate::api::{self, App, Call};
use crate::base::blocking;
use crate::base::limits::AUDIT_EXPORT_BYTES_MAX;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::{Body, Response};
use crate::store::audit::read::{self, AuditEntry};
use crate::store::audit::verify::{Given, parse_head, verify};
use crate::store::audit::{On, What};
use crate::wire::audit_line::hex_bytes;

/// A page of the audit log, newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AuditPage {
    /// Its records.
    items: Vec<AuditEntry>,
    /// Records in all that fit.
    total: usize,
    /// This page, from 1.
    page: usize,
    /// Records of a page.
    limit: usize,
}

/// What verification found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AuditVerdict {
    /// Nothing is wrong.
    valid: bool,
    /// Records in the log.
    records: u64,
    /// The last record and its hash; keep it elsewhere, and verify against it later.
    head: String,
    /// Everything up to this record is signed.
    signed: u64,
    /// The key that signs, as `oxios-edge audit key` prints it.
    public_key: String,
    /// What is wrong and where, at most a hundred lines.
    findings: Vec<String>,
    /// What cannot be excluded.
    note: String,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<AuditPage>("AuditPage");
    all.answers::<AuditVerdict>("AuditVerdict");
}

/// `GET /api/audit/entries`.
pub(crate) async fn entries(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner().to_string();
    let page = call.page()?;
    let filter = |name: &str| call.query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let (what, key, outcome) = (filter("what"), filter("key"), filter("outcome"));
    // An id, or the HMAC of a name, as it is; a name is looked for by its HMAC, too, also where it is that of a foreign tool.
    let on = filter("on").map(|text| {
        let keyed = app.audit.keyed();
        (On::name(keyed, &text).to_string(), What::foreign_tool(keyed, &text).word(), text)
    });
    let skip = (page.page - 1).saturating_mul(page.limit);
    let (items, total) = blocking(app, move |app| {
        let (disk, dir) = (app.home.seams().disk.clone(), app.audit.dir());
        // Who types finds on the way what is meant.
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| is.starts_with(wanted));
        let (mut items, mut total) = (Vec::new(), 0_usize);
        // Segments from the newest on; within one, only what the page may need is kept.
        for segment in read::segments(&*disk, &dir)?.into_iter().rev() {
            let mut here = std::collections::VecDeque::new();
            let mut count = 0_usize;
            let most = skip.saturating_add(page.limit).saturating_sub(total);
            read::lines(&*disk, &dir, segment, |_, _, record, _| {
                let Some(line) = record.map(|record| record.line) else { return };
                if line.owner == owner
                    && fits(&what, line.what)
                    && fits(&key, line.key)
                    && fits(&outcome, line.outcome)
                    && on.as_ref().is_none_or(|(name, tool, text)| line.on == name || line.what == tool || line.on.starts_with(text))
                {
                    count += 1;
                    if most > 0 {
                        if here.len() == most {
                            here.pop_front();
                        }
                        here.push_back(AuditEntry::of(&line));
                    }
                }
            })?;
            let before = skip.saturating_sub(total);
            items.extend(here.into_iter().rev().skip(before));
            total += count;
        }
        items.truncate(page.limit);
        Ok((items, total))
    })
    .await?;
    api::json(&AuditPage { items, total, page: page.page, limit: page.limit })
}

/// `GET /api/audit/verify`.
pub(crate) async fn check(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let head = match call.query.get("head").filter(|text| !text.is_empty()) {
        Some(text) => Some(
            parse_head(text).ok_or_else(|| HttpError::bad_request("query `head`: expected a number, a colon and 64 hexadecimal digits"))?,
        ),
        None => None,
    };
    let public_key = app.audit.public_key();
    let given = Given { public_key: hex_bytes(&public_key), head };
    let verdict = blocking(app, move |app| verify(&*app.home.seams().disk, &app.audit.dir(), &given)).await?;
    let note = match head {
        Some((n, _)) => format!("Complete up to record {n}, which was noted."),
        None => format!("Complete up to record {}; later ones cannot be excluded.", verdict.last),
    };
    api::json(&AuditVerdict {
        valid: verdict.is_good(),
        records: verdict.records,
        head: verdict.head(),
        signed: verdict.signed,
        public_key,
        note: if verdict.is_good() { note } else { format!("Findings: {}.", verdict.wrong) },
        findings: verdict.findings.iter().map(ToString::to_string).collect(),
    })
}

/// `POST /api/audit/export`: the caller's own records as they stand in the log, one JSON object a line.
pub(crate) async fn export(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner().to_string();
    let bytes = blocking(app, move |app| {
        let (disk, dir, mut out) = (app.home.seams().disk.clone(), app.audit.dir(), Vec::new());
        for segment in read::segments(&*disk, &dir)? {
            read::lines(&*disk, &dir, segment, |_, bytes, record, _| {
                if record.is_some_and(|record| record.line.owner == owner) && out.len() <= AUDIT_EXPORT_BYTES_MAX {
                    out.extend_from_slice(bytes);
                    out.push(b'\n');
                }
            })?;
        }
        Ok(out)
    })
    .await?;
    if bytes.len() > AUDIT_EXPORT_BYTES_MAX {
        let text = "more than 64 MiB of records; use `oxios-edge audit export` on the machine itself";
        return Err(HttpError::new(ErrorStatus::PayloadTooLarge, "export_too_large", text));
    }
    let mut response = Response::new(Body::full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// Reads the log on a blocking thread.
async fn blocking<T: Send + 'static>(
    app: Arc<App>,
    work: impl FnOnce(&App) -> std::io::Result<T> + Send + 'static,
) -> Result<T, HttpError> {
    let done = blocking::spawn(move || work(&app)).await.map_err(|e| HttpError::internal(e.to_string()))?;
    done.map_err(|e| HttpError::internal(format!("reading the audit log: {e}")).code("audit"))
}
