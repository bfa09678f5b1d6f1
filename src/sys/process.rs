//! What the system says of this process: memory, processor time, descriptors. Read from `/proc`, where there is one.

use std::fs;

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

/// Looks now.
pub fn usage() -> Usage {
    let page = rustix::param::page_size() as u64;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    // proc(5): the second number is the resident set in pages.
    let resident = fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    // proc(5): behind the name in parentheses stand state and 10 numbers, then utime and stime.
    let ticked = fs::read_to_string("/proc/self/stat").ok().and_then(|text| {
        let (_, rest) = text.rsplit_once(')')?;
        let mut numbers = rest.split_whitespace().skip(11);
        Some(numbers.next()?.parse::<u64>().ok()? + numbers.next()?.parse::<u64>().ok()?)
    });
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64);
    Usage {
        resident_bytes: resident.unwrap_or(0).saturating_mul(page),
        cpu_seconds: ticked.unwrap_or(0) as f64 / ticks as f64,
        descriptors,
    }
}
