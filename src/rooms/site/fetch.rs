//! A page from the net: `oxios-edge web fetch`, and by itself where `web.auto_update` names an archive and its digest (API A9).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::Site;
use super::install::{InstallError, NO_ARCHIVES, install};
use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::limits::SITE_ARCHIVE_BYTES_MAX;
use crate::base::log;
use crate::http::client::{Client, ClientError, ClientSettings, Outgoing, Target};
use crate::sys::disk::{Disk, read_whole};
use crate::wire::url::Url;

/// For each step of the download.
const PATIENCE: Duration = Duration::from_secs(30);
/// After a download that failed; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(60);
/// A server that is gone for days is asked once an hour.
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Hexadecimal digits of a SHA-256.
const DIGEST_LEN: usize = 64;

/// Where a page is, and the digest without which it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    url: Url,
    /// Lower-case hexadecimal.
    digest: String,
}

impl Source {
    /// An address and a SHA-256 in hexadecimal; none where either is malformed.
    pub fn new(url: Url, digest: &str) -> Option<Self> {
        let digest = digest.trim().to_ascii_lowercase();
        (digest.len() == DIGEST_LEN && digest.bytes().all(|b| b.is_ascii_hexdigit())).then_some(Self { url, digest })
    }

    /// Where it is fetched from.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// As `web.auto_update` says it: an address, a space, `sha256:` and the digest.
    pub fn parse(text: &str) -> Option<Self> {
        let (url, digest) = text.trim().split_once(char::is_whitespace)?;
        Self::new(Url::parse(url).ok()?, digest.trim().strip_prefix("sha256:")?)
    }
}

impl Site {
    /// Fetches what `web.auto_update` names, where that is not what was fetched last; looks again when the configuration changes, and
    /// after a while where it failed. Nothing is fetched without that key. Ends with `stop`.
    pub async fn keep_current(self: Arc<Self>, stop: Cancel) {
        let mut retry = RETRY_FIRST;
        loop {
            let settings = self.settings.load();
            let dir = settings.dist.clone().unwrap_or_else(|| self.places[0].clone());
            let failed = match &settings.auto_update {
                None => false,
                Some(_) if cfg!(not(feature = "archives")) => {
                    log::warn("site", format_args!("web.auto_update: {NO_ARCHIVES}"));
                    false
                }
                Some(source) => match stop.guard(self.update(&dir, source)).await {
                    Ok(done) => done.inspect_err(|e| log::warn("site", format_args!("web.auto_update: {e}"))).is_err(),
                    Err(_) => return,
                },
            };
            let rest = async {
                if failed {
                    tokio::time::sleep(retry).await;
                } else {
                    std::future::pending().await
                }
            };
            let next = async {
                tokio::select! {
                    () = rest => (retry * 2).min(RETRY_MAX),
                    () = self.settings.changed() => RETRY_FIRST,
                }
            };
            match stop.guard(next).await {
                Ok(next) => retry = next,
                Err(_) => return,
            }
        }
    }

    async fn update(&self, dir: &Path, source: &Source) -> Result<(), InstallError> {
        let (disk, note) = (self.disk.clone(), note(dir));
        let read = blocking::spawn(move || read_whole(&*disk, &note, DIGEST_LEN as u64)).await;
        if read.is_ok_and(|read| read.is_ok_and(|digest| digest == source.digest.as_bytes())) {
            return Ok(());
        }
        let files = fetch(self.disk.clone(), dir.to_owned(), source).await?;
        log::info("site", format_args!("web.auto_update: {files} files were fetched; they are the page from now on"));
        Ok(())
    }
}

/// Downloads an archive, checks its digest, and puts its page in place of the one in `dir`, all at once; tells how many files it has.
///
/// # Errors
/// What was sent is not what was asked for, or nothing came; then nothing is changed. Redirects are not followed.
pub async fn fetch(disk: Arc<dyn Disk>, dir: PathBuf, source: &Source) -> Result<usize, InstallError> {
    let archive = download(source.url.clone()).await?;
    let digest = source.digest.clone();
    let written = blocking::spawn(move || {
        let files = install(&*disk, &dir, &archive, &digest)?;
        // Behind the page: stopped between the two, the next start fetches it once more.
        crate::store::atomic::replace(&*disk, &note(&dir), digest.as_bytes(), crate::store::atomic::Durable::Yes)?;
        Ok(files)
    });
    written.await.map_err(|e| InstallError::Refused(e.to_string()))?
}

/// The file beside a page that says which archive it came from.
fn note(dir: &Path) -> PathBuf {
    dir.with_extension("sha256")
}

async fn download(url: Url) -> Result<Vec<u8>, InstallError> {
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
    let failed = |e: ClientError| InstallError::Refused(format!("{e}; nothing was changed"));
    let incoming = Client::new(ClientSettings::default()).send(outgoing).await.map_err(failed)?;
    if incoming.status != StatusCode::OK {
        return Err(InstallError::Refused(format!("the server answered {}; nothing was changed", incoming.status.as_u16())));
    }
    incoming.collect(SITE_ARCHIVE_BYTES_MAX).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_and_a_digest() {
        let digest = "0aB1".repeat(16);
        let source = Source::parse(&format!(" https://a.example/page.tgz  sha256:{digest} ")).unwrap();
        assert_eq!((source.url.host(), &source.digest), ("a.example", &digest.to_lowercase()));
        for bad in [
            "",
            "https://a.example/page.tgz",
            "https://a.example/p sha256:00",
            &format!("x sha256:{digest}"),
            &format!("https://a/ {digest}"),
        ] {
            assert_eq!(Source::parse(bad), None, "{bad}");
        }
    }
}
