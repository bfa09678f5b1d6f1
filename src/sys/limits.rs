//! Resource limits of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one and returns what holds now; none where there is no limit.
/// A process that may not raise it keeps what it has.
pub fn raise_descriptors() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum {
        // Refused where a sandbox forbids it; the answer below tells what came of it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = super::raise_descriptors();
        assert_eq!(limit, super::getrlimit(super::Resource::Nofile).maximum);
    }
}
