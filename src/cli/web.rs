//! `web fetch`: a page of one's own from an archive in the net, whose digest is given.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::args::Parsed;
use super::output::{Failure, print};
use super::{load, small_runtime};
use crate::base::limits::SITE_ARCHIVE_BYTES_MAX;
use crate::config::{Env, settings};
use crate::http::client::{Client, ClientSettings, Outgoing, Target};
use crate::rooms::site::install::install;
use crate::sys::disk::RealDisk;
use crate::wire::url::Url;

/// For each step of the download.
const PATIENCE: Duration = Duration::from_secs(30);

/// Downloads an archive, checks its digest, and puts its page in place of the one in `web.dist`, else `<home>/web/dist`. A running
/// gateway serves it at once.
pub(super) fn fetch(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let (Some(url), Some(digest)) = (parsed.value("url"), parsed.value("sha256")) else {
        return Err(Failure::usage("web fetch: --url URL and --sha256 HEX are needed: the digest that whoever made the page told you"));
    };
    let url = Url::parse(url).map_err(|e| Failure::usage(format!("--url: {e}")))?;
    let config = load(parsed, env)?;
    let dir = settings(&config).site.dist.unwrap_or_else(|| config.home().join("web/dist"));
    let archive = small_runtime()?.block_on(download(url))?;
    let files = install(&RealDisk, &dir, &archive, digest).map_err(|e| Failure::failed(e.to_string()))?;
    print(format_args!("{files} files are in {}; they are the page from now on\n", dir.display()));
    Ok(())
}

async fn download(url: Url) -> Result<Vec<u8>, Failure> {
    let outgoing = Outgoing {
        path_and_query: url.path_and_query(),
        target: Target::Url(url),
        method: Method::GET,
        headers: Vec::new(),
        body: Bytes::new(),
        connect: PATIENCE,
        first_byte: PATIENCE,
        between: PATIENCE,
    };
    let failed = |e: crate::http::client::ClientError| Failure::failed(e.to_string());
    let incoming = Client::new(ClientSettings::default()).send(outgoing).await.map_err(failed)?;
    if incoming.status != StatusCode::OK {
        return Err(Failure::failed(format!("the server answered {}; nothing was changed", incoming.status.as_u16())));
    }
    incoming.collect(SITE_ARCHIVE_BYTES_MAX).await.map_err(failed)
}
