//! How much memory this process holds.

/// Resident memory in bytes; `None` where the system does not say.
pub fn resident() -> Option<u64> {
    // Linux proc_pid_status(5): `VmRSS:     2345 kB`.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_holds_something() {
        assert!(super::resident().is_none_or(|bytes| bytes > 100_000));
    }
}
