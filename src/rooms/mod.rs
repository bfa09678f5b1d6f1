//! Floor 3: workspace, memory, skills, personas, spaces, approvals, seeds, tool servers (mcp), the page; independent of each other.

pub mod agents;
pub mod approvals;
pub mod mcp;
pub mod memory;
pub mod personas;
pub mod seeds;
pub mod site;
pub mod skills;
pub mod spaces;
pub mod workspace;

/// A fresh directory and the system's seams with a clock that stands still, for the rooms' tests.
#[cfg(test)]
pub(crate) fn test_seams(name: &str) -> (std::path::PathBuf, crate::store::home::Seams) {
    use crate::base::{random::SystemRandom, time::ManualClock};
    use std::sync::Arc;
    // A directory for each call: tests run at the same time, some under one name.
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("oxios-room-{name}-{}-{n}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&dir).unwrap();
    let seams = crate::store::home::Seams {
        disk: Arc::new(crate::sys::disk::RealDisk),
        clock: Arc::new(ManualClock::at(crate::base::time::Timestamp::from_millis(1_800_000_000_000))),
        random: Arc::new(SystemRandom::new()),
    };
    (dir, seams)
}

/// The same in memory, so that the power can be cut.
#[cfg(test)]
pub(crate) fn memory_seams() -> (crate::sys::memory_disk::MemoryDisk, crate::store::home::Seams) {
    let disk = crate::sys::memory_disk::MemoryDisk::default();
    let (dir, seams) = test_seams("memory");
    let _ = std::fs::remove_dir(dir);
    (disk.clone(), crate::store::home::Seams { disk: std::sync::Arc::new(disk), ..seams })
}

/// Moves a directory's time on by a minute: two changes by hand within one tick of the file system's clock look like one.
#[cfg(test)]
pub(crate) fn touch(dir: &std::path::Path) {
    let later = std::fs::metadata(dir).unwrap().modified().unwrap() + std::time::Duration::from_secs(60);
    std::fs::File::open(dir).unwrap().set_modified(later).unwrap();
}
