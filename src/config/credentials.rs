//! Keys of model providers as files that a service manager hands over (systemd.exec(5), `LoadCredential=`): they are in no unit, no
//! environment and no backup. `$CREDENTIALS_DIRECTORY/openai_api_key` means what `OPENAI_API_KEY` does, and so on; a variable that
//! is set goes before the file, since somebody typed it later.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use super::Env;
use super::error::Problem;
use crate::base::limits::CREDENTIAL_BYTES_MAX;
use crate::base::secret::Secret;

/// The name of the credential that stands for `OPENAI_API_KEY`.
pub(super) const OPENAI: &str = "openai_api_key";
/// The name of the credential that stands for `ANTHROPIC_API_KEY`.
pub(super) const ANTHROPIC: &str = "anthropic_api_key";

/// The credentials that we know and that are there. Read once, at the start: the directory is made anew for each.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub(super) openai_key: Option<Secret>,
    pub(super) anthropic_key: Option<Secret>,
}

impl Credentials {
    /// Those in `$CREDENTIALS_DIRECTORY`; what is wrong with one goes to `problems`.
    pub(super) fn read(env: &Env, problems: &mut Vec<Problem>) -> Self {
        let Some(dir) = env.get("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()) else { return Self::default() };
        let dir = Path::new(dir);
        if !dir.is_absolute() {
            problems.push(Problem::new("CREDENTIALS_DIRECTORY", "is no path from the root"));
            return Self::default();
        }
        let mut read = |name: &str| {
            let path = dir.join(name);
            one(&path).unwrap_or_else(|why| {
                problems.push(Problem::new(path.display().to_string(), why));
                None
            })
        };
        Self { openai_key: read(OPENAI), anthropic_key: read(ANTHROPIC) }
    }
}

/// One key; none where there is no file.
fn one(path: &Path) -> Result<Option<Secret>, String> {
    let said = |e: io::Error| format!("cannot be read: {e}");
    // Never through a link, and never waiting for the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err("is a link; a credential is a file".to_owned()),
        Err(e) => return Err(said(e.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|e| said(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("is no file".to_owned());
    }
    // systemd lets the service's user in by an access list, which shows as rights to read of the group.
    let mode = stat.st_mode & 0o777;
    if mode & 0o027 != 0 {
        return Err(format!("is open to others (mode {mode:04o}); at most its group may read it: chmod 0440"));
    }
    let mut text = Vec::new();
    file.take(CREDENTIAL_BYTES_MAX + 1).read_to_end(&mut text).map_err(said)?;
    if text.len() as u64 > CREDENTIAL_BYTES_MAX {
        return Err(format!("is longer than {CREDENTIAL_BYTES_MAX} bytes; no key is"));
    }
    // A file that was written with an editor or `echo` ends with a line end that no key has.
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    // RFC 9110 §5.5: it is to travel in a header field; what is within are visible characters.
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        return Err("holds no key: one line of visible ASCII characters is expected".to_owned());
    }
    Ok(Some(Secret::new(String::from_utf8_lossy(text))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_one_line_that_only_we_may_read() {
        let dir = std::env::temp_dir().join(format!("oxios-credentials-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("key");
        assert!(one(&path).unwrap().is_none());
        let max = "k".repeat(CREDENTIAL_BYTES_MAX as usize);
        for (text, mode, expected) in [
            ("sk-1", 0o400, Ok("sk-1")),
            ("sk-1\n", 0o600, Ok("sk-1")),
            ("sk-1\r\n", 0o440, Ok("sk-1")),
            (&max, 0o400, Ok(max.as_str())),
            ("sk-1\n", 0o444, Err("open to others (mode 0444)")),
            ("sk-1\n", 0o420, Err("open to others")),
            ("sk-1\n\n", 0o400, Err("holds no key")),
            ("sk 1", 0o400, Err("holds no key")),
            ("sk-ü", 0o400, Err("holds no key")),
            ("\n", 0o400, Err("holds no key")),
            (&format!("{max}\n"), 0o400, Err("longer than 4096 bytes")),
        ] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match (one(&path), expected) {
                (Ok(Some(key)), Ok(expected)) => assert_eq!(key.reveal(), expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected) && !why.contains("sk"), "{why}"),
                (got, _) => panic!("{text:?} {mode:o}: {:?}", got.map(|_| ())),
            }
        }
        std::fs::rename(&path, dir.join("other")).unwrap();
        std::os::unix::fs::symlink(dir.join("other"), &path).unwrap();
        assert!(one(&path).unwrap_err().contains("is a link"));
        assert!(one(&dir).unwrap_err().contains("is no file"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
