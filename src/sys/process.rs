//! What the system says of this process: memory, processor time, descriptors. Read from `/proc`, where there is one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock};

use rustix::fs::{Dir, Mode, OFlags, open};

/// A look at this process; what cannot be read is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Bytes that lie in memory.
    pub resident_bytes: u64,
    /// Seconds of processor time, user and system.
    pub cpu_seconds: f64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// Files of `/proc`, open from the first look on: a process that is shut in (see `landlock`) opens nothing there, and need not be
/// let in, since other processes show there, too.
struct Files {
    statm: Option<File>,
    stat: Option<File>,
    /// Has a place within; held for one reading.
    descriptors: Option<Mutex<Dir>>,
}

/// Opens what [`usage`] reads; for a process that will be shut in.
pub fn prepare() {
    files();
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let file = |path| File::open(path).ok();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = open("/proc/self/fd", flags, Mode::empty()).and_then(Dir::new).ok().map(Mutex::new);
        Files { statm: file("/proc/self/statm"), stat: file("/proc/self/stat"), descriptors }
    })
}

/// Looks now.
pub fn usage() -> Usage {
    let files = files();
    let page = rustix::param::page_size() as u64;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    // proc(5): the second number is the resident set in pages.
    let resident = text(&files.statm).and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    // proc(5): behind the name in parentheses stand state and 10 numbers, then utime and stime.
    let ticked = text(&files.stat).and_then(|text| {
        let (_, rest) = text.rsplit_once(')')?;
        let mut numbers = rest.split_whitespace().skip(11);
        Some(numbers.next()?.parse::<u64>().ok()? + numbers.next()?.parse::<u64>().ok()?)
    });
    let descriptors = files.descriptors.as_ref().map_or(0, |dir| {
        let mut dir = dir.lock().unwrap_or_else(|e| e.into_inner());
        dir.rewind();
        let named = |name: &[u8]| name != b"." && name != b"..";
        dir.by_ref().flatten().filter(|item| named(item.file_name().to_bytes())).count() as u64
    });
    Usage {
        resident_bytes: resident.unwrap_or(0).saturating_mul(page),
        cpu_seconds: ticked.unwrap_or(0) as f64 / ticks as f64,
        descriptors,
    }
}

/// The whole of a file of `/proc`, as it is now. They are one line each, shorter than this.
fn text(file: &Option<File>) -> Option<String> {
    let mut bytes = [0; 1024];
    let read = file.as_ref()?.read_at(&mut bytes, 0).ok()?;
    // The name of the process may be no UTF-8.
    Some(String::from_utf8_lossy(bytes.get(..read)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_look_is_a_new_one() {
        let before = usage();
        assert!(before.resident_bytes > 1 << 20 && before.descriptors > 3, "{before:?}");
        let kept: Vec<File> = (0..64).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests close files meanwhile, but hardly so many.
        assert!(usage().descriptors >= before.descriptors + 16);
        drop(kept);
    }
}
