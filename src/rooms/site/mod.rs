//! The web page (API A9): the files of somebody's own build where there is a directory with an `index.html`, else the ones that the
//! binary carries. Directories are looked at for every request, so that a new build there is served at once. Everything here blocks,
//! but for [`Site::at_hand`].

pub mod embedded;
pub mod fetch;
pub mod install;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::base::digest::{hex, sha256};
use crate::base::limits::{SITE_FILE_WHOLE_BYTES_MAX, SITE_PACKED_BYTES_MAX};
use crate::base::live::Live;
use crate::sys::disk::{Disk, DiskFile};
use crate::sys::root::{Item, Root, RootError};
use crate::wire::media::{is_text, media_type};

/// The page itself, in whatever directory.
const INDEX: &str = "index.html";
/// Files beneath it belong to a page and are no places in it: a missing one is missing. A script that is answered with the page is
/// a riddle to whoever looks for it.
const ASSETS: &str = "assets/";
/// Shorter texts do not get shorter by much.
const PACK_FROM_BYTES: usize = 512;

/// What of the configuration concerns the page.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `web.dist`: the directory that is looked at first.
    pub dist: Option<PathBuf>,
    /// `web.auto_update`: the page that is fetched by itself.
    pub auto_update: Option<fetch::Source>,
}

/// The files that the binary carries, with their digests.
static OURS: LazyLock<Vec<(&str, File)>> = LazyLock::new(|| {
    let file = |(name, bytes): &(&'static str, &'static [u8])| (*name, File::new(name, Bytes::from_static(bytes), true));
    embedded::FILES.iter().map(file).collect()
});

/// Where the page comes from.
pub struct Site {
    disk: Arc<dyn Disk>,
    /// Further directories, in their order.
    places: [PathBuf; 2],
    /// Both lie in the home, which every request with a key looks at, too: to ask whether they are there needs no thread.
    near: bool,
    settings: Arc<Live<Settings>>,
    /// What was compressed, by the digest of the plain bytes. Guards the map only; two requests may compress the same file once.
    packed: Mutex<Packed>,
}

#[derive(Default)]
struct Packed {
    by_digest: HashMap<[u8; 32], Bytes>,
    bytes: usize,
}

/// What a path leads to.
pub enum Found {
    /// A file that was read.
    Whole(File),
    /// A large file of somebody's own build, to be read piece by piece.
    Large(Arc<dyn DiskFile>, Item, &'static str),
    /// A file of the page that is not there.
    Nothing,
}

/// A file of the page.
#[derive(Clone)]
pub struct File {
    /// Its content.
    pub bytes: Bytes,
    /// SHA-256 of it.
    digest: [u8; 32],
    /// The same as a strong validator, without quotes (RFC 9110 §8.8.1).
    pub tag: String,
    /// Its media type.
    pub media: &'static str,
    /// It is the page, not one of its files.
    pub is_page: bool,
    /// It is of the binary's own page.
    pub is_ours: bool,
}

impl File {
    fn new(name: &str, bytes: Bytes, is_ours: bool) -> Self {
        let digest = sha256(&bytes);
        // Half of a SHA-256 is as good here as all of it.
        let tag = hex(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        Self { digest, tag, bytes, media: media_type(name), is_page: name == INDEX, is_ours }
    }
}

impl Site {
    /// Looks into `web.dist`, `<home>/web/dist` and `<workspace>/web/dist`.
    pub fn new(disk: Arc<dyn Disk>, home: &Path, workspace: &Path, settings: Arc<Live<Settings>>) -> Self {
        let places = [home.join("web/dist"), workspace.join("web/dist")];
        Self { disk, places, near: workspace.starts_with(home), settings, packed: Mutex::default() }
    }

    /// The same as [`Site::find`] and, with `zip`, [`Site::packed`], where that is known without reading or compressing anything: the
    /// binary's own page, as there is no directory with another one.
    pub fn at_hand(&self, path: &str, zip: bool) -> Option<(Found, Option<Bytes>)> {
        let none = |place: &PathBuf| matches!(self.disk.stat(place), Ok(None));
        if !self.near || self.settings.load().dist.is_some() || !self.places.iter().all(none) {
            return None;
        }
        let found = ours(path);
        let packed = match &found {
            Found::Whole(file) if zip && is_packable(file) => Some(self.kept().by_digest.get(&file.digest)?.clone()),
            _ => None,
        };
        Some((found, packed))
    }

    /// What this path (decoded, without a slash in front) leads to: a file of the page, else the page.
    pub fn find(&self, path: &str) -> Result<Found, RootError> {
        let settings = self.settings.load();
        for place in settings.dist.iter().chain(&self.places) {
            match Root::open(&*self.disk, place).and_then(|root| own(&root, page_or(path))) {
                // No directory, or no page in it.
                Err(RootError::NotFound | RootError::NotADirectory | RootError::NotAFile | RootError::Escapes) => {}
                other => return other,
            }
        }
        Ok(ours(path))
    }

    /// A file's content compressed (RFC 1952), where that is worth it; kept, since the same few files are asked for.
    pub fn packed(&self, file: &File) -> Option<Bytes> {
        if !is_packable(file) {
            return None;
        }
        if let Some(bytes) = self.kept().by_digest.get(&file.digest) {
            return Some(bytes.clone());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&file.bytes).ok()?;
        let bytes = Bytes::from(encoder.finish().ok()?);
        let mut kept = self.kept();
        if kept.bytes + bytes.len() > SITE_PACKED_BYTES_MAX {
            // Builds come and go; what is still asked for comes back.
            *kept = Packed::default();
        }
        if kept.by_digest.insert(file.digest, bytes.clone()).is_none() {
            kept.bytes += bytes.len();
        }
        Some(bytes)
    }

    fn kept(&self) -> MutexGuard<'_, Packed> {
        self.packed.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The root of the page is the page.
fn page_or(path: &str) -> &str {
    if path.is_empty() { INDEX } else { path }
}

/// A file that the binary carries, else its page.
fn ours(path: &str) -> Found {
    let named = |name: &str| OURS.iter().find(|(known, _)| *known == name);
    let found = named(page_or(path)).or_else(|| if path.starts_with(ASSETS) { None } else { named(INDEX) });
    found.map_or(Found::Nothing, |(_, file)| Found::Whole(file.clone()))
}

/// It gets shorter by enough to be worth it.
fn is_packable(file: &File) -> bool {
    file.bytes.len() >= PACK_FROM_BYTES && is_text(file.media)
}

/// A file of a directory with a page in it, else the page.
fn own(root: &Root, path: &str) -> Result<Found, RootError> {
    let (page, item) = root.open_file(INDEX)?;
    let (file, item, name) = if path == INDEX {
        (page, item, INDEX)
    } else {
        match root.open_file(path) {
            Ok((file, item)) => (file, item, path),
            Err(RootError::Io(e)) => return Err(RootError::Io(e)),
            Err(_) if path.starts_with(ASSETS) => return Ok(Found::Nothing),
            // Nothing, or nothing that a name may lead to (a link, a way out): a place within the page.
            Err(_) => (page, item, INDEX),
        }
    };
    if item.size > SITE_FILE_WHOLE_BYTES_MAX as u64 {
        return Ok(Found::Large(Arc::from(file), item, media_type(name)));
    }
    let mut bytes = vec![0; SITE_FILE_WHOLE_BYTES_MAX.min(usize::try_from(item.size).unwrap_or(usize::MAX))];
    let read = crate::sys::disk::read_full(file.as_ref(), &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Found::Whole(File::new(name, bytes.into(), false)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::RealDisk;

    fn place() -> (PathBuf, Site) {
        let (dir, _) = crate::rooms::test_seams("site");
        let site = Site::new(Arc::new(RealDisk), &dir.join("home"), &dir.join("work"), Arc::default());
        (dir, site)
    }

    fn text(site: &Site, path: &str) -> Option<String> {
        match site.find(path).unwrap() {
            Found::Whole(file) => Some(String::from_utf8_lossy(&file.bytes).into_owned()),
            Found::Large(_, item, _) => Some(format!("{} bytes", item.size)),
            Found::Nothing => None,
        }
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_first_directory_with_a_page_replaces_ours_as_a_whole() {
        let (dir, site) = place();
        let ours = text(&site, "").unwrap();
        assert_eq!(text(&site, "any/where").unwrap(), ours);
        assert!(text(&site, "assets/app.js").is_some() && text(&site, "assets/nothing.js").is_none());
        // A directory without a page is none.
        write(&dir.join("home/web/dist/assets/app.js"), "x");
        assert_eq!(text(&site, "").unwrap(), ours);
        write(&dir.join("work/web/dist/index.html"), "work");
        assert_eq!(text(&site, "").unwrap(), "work");
        assert_eq!(text(&site, "assets/app.js"), None, "no file of another page is among its files");
        write(&dir.join("home/web/dist/index.html"), "home");
        assert_eq!((text(&site, "").unwrap(), text(&site, "assets/app.js").unwrap()), ("home".into(), "x".into()));
        write(&dir.join("first/index.html"), "first");
        site.settings.store(Settings { dist: Some(dir.join("first")), auto_update: None });
        assert_eq!(text(&site, "deep/er").unwrap(), "first");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn our_page_is_at_hand_until_there_may_be_another() {
        let (dir, _) = crate::rooms::test_seams("site");
        let near = || Site::new(Arc::new(RealDisk), &dir, &dir.join("work"), Arc::default());
        let (site, ours) = (near(), |site: &Site, zip| site.at_hand("assets/style.css", zip).is_some());
        assert!(ours(&site, false) && !ours(&site, true), "what is not compressed yet needs a thread");
        let Some((Found::Whole(file), None)) = site.at_hand("assets/style.css", false) else { panic!() };
        let packed = site.packed(&file);
        assert!(packed.is_some() && site.at_hand("assets/style.css", true).unwrap().1 == packed);
        assert!(matches!(site.at_hand("assets/nothing.js", true), Some((Found::Nothing, None))));
        site.settings.store(Settings { dist: Some(dir.join("elsewhere")), auto_update: None });
        assert!(!ours(&site, false), "it may lie anywhere");
        for place in ["web/dist", "work/web/dist"] {
            let site = near();
            assert!(ours(&site, false));
            std::fs::create_dir_all(dir.join(place)).unwrap();
            assert!(!ours(&site, false), "{place}");
            std::fs::remove_dir(dir.join(place)).unwrap();
            std::os::unix::fs::symlink(&dir, dir.join(place)).unwrap();
            assert!(!ours(&site, false), "a link to {place}");
            std::fs::remove_file(dir.join(place)).unwrap();
            assert!(ours(&site, false));
        }
        let far = Site::new(Arc::new(RealDisk), &dir.join("home"), &dir.join("work"), Arc::default());
        assert!(!ours(&far, false), "a workspace elsewhere may be slow");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn no_name_and_no_link_leads_out_of_the_directory() {
        let (dir, site) = place();
        write(&dir.join("home/web/dist/index.html"), "page");
        write(&dir.join("home/token"), "secret");
        std::os::unix::fs::symlink("../../token", dir.join("home/web/dist/link.txt")).unwrap();
        std::os::unix::fs::symlink("../..", dir.join("home/web/dist/up")).unwrap();
        for path in ["link.txt", "up/token", "../../token", "/etc/passwd", "a//b", "x\0y"] {
            assert_eq!(text(&site, path).unwrap(), "page", "{path}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_and_is_kept_within_bounds() {
        use std::io::Read;
        let (dir, site) = place();
        let Found::Whole(file) = site.find("assets/style.css").unwrap() else { panic!() };
        let packed = site.packed(&file).unwrap();
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, file.bytes);
        assert!(packed.len() < plain.len() / 2);
        assert!(
            site.packed(&File::new("a.png", vec![b'x'; 9000].into(), false)).is_none()
                && site.packed(&File::new("a.js", Bytes::new(), false)).is_none()
        );
        for n in 0..40u8 {
            // Noise does not get shorter.
            let noise: Vec<u8> = (0..8192u32).flat_map(|i| sha256(&[&[n][..], &i.to_be_bytes()].concat())).collect();
            site.packed(&File::new("a.js", noise.into(), false)).unwrap();
            assert!(site.packed.lock().unwrap().bytes <= SITE_PACKED_BYTES_MAX);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
