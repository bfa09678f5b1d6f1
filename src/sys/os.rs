//! The one file with `unsafe`: what the system offers only through C. Each use says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Gives freed heap pages back to the system. glibc keeps up to 100 MB after a burst of connections; other C libraries
/// give memory back by themselves, there this does nothing. Takes about a millisecond: call it when a load has ended.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: malloc_trim(3) takes a number, may be called from any thread at any time, and touches only free memory.
        unsafe {
            malloc_trim(0);
        }
    }
}

/// Takes over a descriptor that the process was started with; programs that are started later do not inherit it. Once, and before
/// other files are opened: afterwards the number could be another's.
///
/// # Errors
/// It is not open, or one was taken before.
pub fn take_descriptor(number: i32) -> io::Result<OwnedFd> {
    /// fcntl(2); the same numbers on every Linux.
    const F_SETFD: std::ffi::c_int = 2;
    const FD_CLOEXEC: std::ffi::c_int = 1;
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    unsafe extern "C" {
        fn fcntl(descriptor: std::ffi::c_int, command: std::ffi::c_int, ...) -> std::ffi::c_int;
    }
    // SAFETY: F_SETFD takes one number, touches no memory, and answers EBADF where nothing is open. What is open then came with the
    // process: the caller says that nothing else has opened it, and TAKEN that nobody else owns it.
    unsafe {
        if fcntl(number, F_SETFD, FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn trimming_leaves_what_is_in_use() {
        let kept = vec![7u8; 1 << 20];
        super::trim_heap();
        assert!(kept.iter().all(|b| *b == 7));
    }
}
