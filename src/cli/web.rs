//! `web fetch`: a page of one's own from an archive in the net, whose digest is given.

use std::sync::Arc;

use super::args::Parsed;
use super::output::{Failure, print};
use super::{as_owner, flags, home, small_runtime};
use crate::config::{Config, Env, settings};
use crate::rooms::site::fetch::{self, Source};
use crate::sys::disk::RealDisk;
use crate::wire::url::Url;

/// Downloads an archive, checks its digest, and puts its page in place of the one in `web.dist`, else `<home>/web/dist`. A running
/// gateway serves it at once.
pub(super) fn fetch(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let (Some(url), Some(digest)) = (parsed.value("url"), parsed.value("sha256")) else {
        return Err(Failure::usage("web fetch: --url URL and --sha256 HEX are needed: the digest that whoever made the page told you"));
    };
    let url = Url::parse(url).map_err(|e| Failure::usage(format!("--url: {e}")))?;
    let source = Source::new(url, digest).ok_or_else(|| Failure::usage("--sha256: 64 hexadecimal digits are needed"))?;
    let at = as_owner(&home(parsed, env)?)?;
    let config = Config::load(&at, env, &flags(parsed)?)?;
    let dir = settings(&config).site.dist.unwrap_or_else(|| config.home().join("web/dist"));
    let fetched = small_runtime()?.block_on(fetch::fetch(Arc::new(RealDisk), dir.clone(), &source));
    let files = fetched.map_err(|e| Failure::failed(e.to_string()))?;
    print(format_args!("{files} files are in {}; they are the page from now on\n", dir.display()));
    Ok(())
}
