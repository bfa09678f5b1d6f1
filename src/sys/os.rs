//! The one file with `unsafe`: what the system offers only through C. Each use says why it is sound.
#![allow(unsafe_code)]

use std::io;
#[cfg(feature = "landlock")]
use std::os::fd::{AsRawFd, BorrowedFd};
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

/// Gives back the pages of the program's code and constants, as far as the kernel lets go of them: what is used again is mapped again,
/// from the page cache, about a microsecond for a stretch of 64 KiB. A start and each kind of request pass through code of their own;
/// without this all that was ever passed through counts as resident, for good. Call it when a load has ended.
pub fn trim_code() {
    #[cfg(target_os = "linux")]
    {
        use std::ffi::{c_char, c_int, c_void};
        use std::ptr::addr_of;

        /// madvise(2); the same number on every Linux that Rust knows.
        const MADV_DONTNEED: c_int = 4;
        // SAFETY: every linker for ELF defines both names; only their addresses are taken.
        unsafe extern "C" {
            static __executable_start: c_char;
            static etext: c_char;
            fn madvise(start: *mut c_void, len: usize, advice: c_int) -> c_int;
        }
        /// The largest page there is: an end that is rounded down to it is one of whole pages everywhere.
        const PAGE_BYTES_MAX: usize = 64 * 1024;
        let (start, end) = (addr_of!(__executable_start).cast_mut(), addr_of!(etext).addr() / PAGE_BYTES_MAX * PAGE_BYTES_MAX);
        // SAFETY: from where the program begins to the end of its code lie mappings of its file that are never written to (what is
        // relocated or writable lies behind it; code with relocations of its own is refused by the linker). Such a page comes back
        // from the file as it was, and the kernel lets nobody write to a file that runs. Where a hole or another's mapping is met,
        // the call does less and says so, which is of no interest.
        unsafe {
            madvise(start.cast(), end.saturating_sub(start.addr()), MADV_DONTNEED);
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

/// The three calls of landlock(7). Neither the C library nor `rustix` has them; the crate that does would bring five more with it,
/// two of them macros. What they take is fixed for good: numbers, and two structures that only grow at their end.
#[cfg(feature = "landlock")]
pub(super) mod landlock {
    use std::ffi::{c_int, c_long};

    use super::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, io};

    /// System calls from 424 on have the same number everywhere, but for the offset that MIPS has.
    const CREATE_RULESET: c_long = 444
        + if cfg!(any(target_arch = "mips", target_arch = "mips32r6")) {
            4000
        } else if cfg!(any(target_arch = "mips64", target_arch = "mips64r6")) {
            5000
        } else {
            0
        };
    const ADD_RULE: c_long = CREATE_RULESET + 1;
    const RESTRICT_SELF: c_long = CREATE_RULESET + 2;
    const CREATE_RULESET_VERSION: c_long = 1;
    const RULE_PATH_BENEATH: c_long = 1;
    const RULE_NET_PORT: c_long = 2;

    // SAFETY: as the C library declares it; that what it is given is what the kernel expects is said at each use.
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    /// Rights that a set of rules is about; what a kernel does not know must be 0.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub(crate) struct Handled {
        /// Of files.
        pub(crate) files: u64,
        /// Of TCP ports.
        pub(crate) ports: u64,
        /// What is not to reach out of the process.
        pub(crate) scoped: u64,
    }

    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        parent: c_int,
    }

    #[repr(C)]
    struct Port {
        allowed: u64,
        port: u64,
    }

    /// The version of the interface.
    ///
    /// # Errors
    /// `ENOSYS`: the kernel was built without it; `EOPNOTSUPP`: it is switched off.
    pub(crate) fn version() -> io::Result<u32> {
        let (nothing, none): (*const Handled, usize) = (std::ptr::null(), 0);
        // SAFETY: with this flag nothing is read; the answer is a number.
        let version = unsafe { syscall(CREATE_RULESET, nothing, none, CREATE_RULESET_VERSION) };
        u32::try_from(version).map_err(|_| io::Error::last_os_error())
    }

    /// A set of rules that allows nothing of what it is about.
    pub(crate) fn ruleset(handled: Handled) -> io::Result<OwnedFd> {
        let (no_flags, size): (c_long, usize) = (0, size_of::<Handled>());
        // SAFETY: the kernel reads `size` bytes of a structure that lives until the call returns. The answer is a descriptor that
        // nobody else has, closed on exec.
        unsafe {
            let ruleset = syscall(CREATE_RULESET, &raw const handled, size, no_flags);
            match c_int::try_from(ruleset) {
                Ok(ruleset @ 0..) => Ok(OwnedFd::from_raw_fd(ruleset)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Allows rights beneath a directory, or to a file.
    pub(crate) fn allow_beneath(ruleset: &OwnedFd, allowed: u64, parent: BorrowedFd<'_>) -> io::Result<()> {
        let rule = Beneath { allowed, parent: parent.as_raw_fd() };
        add(ruleset, RULE_PATH_BENEATH, &rule)
    }

    /// Allows rights to a TCP port.
    pub(crate) fn allow_port(ruleset: &OwnedFd, allowed: u64, port: u16) -> io::Result<()> {
        add(ruleset, RULE_NET_PORT, &Port { allowed, port: port.into() })
    }

    fn add<T>(ruleset: &OwnedFd, kind: c_long, rule: &T) -> io::Result<()> {
        let no_flags: c_long = 0;
        // SAFETY: the kernel reads the structure that `kind` stands for (the two callers pass it), which lives until the call
        // returns, and uses the two descriptors, which are borrowed for as long.
        done(unsafe { syscall(ADD_RULE, ruleset.as_raw_fd(), kind, std::ptr::from_ref(rule), no_flags) })
    }

    /// Holds this thread, and what it starts from now on, to the rules, for good.
    pub(crate) fn restrict_self(ruleset: &OwnedFd) -> io::Result<()> {
        let no_flags: c_long = 0;
        // SAFETY: a descriptor and a number; no memory is touched.
        done(unsafe { syscall(RESTRICT_SELF, ruleset.as_raw_fd(), no_flags) })
    }

    fn done(answer: c_long) -> io::Result<()> {
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

    #[cfg(target_os = "linux")]
    #[test]
    fn trimmed_code_is_mapped_again_where_it_is_used() {
        use std::os::unix::fs::FileExt;
        /// Nobody else looks at it.
        static WORDS: [u8; 256 * 1024] = [0x5a; 256 * 1024];
        let middle = &WORDS[128 * 1024];
        let is_there = || {
            let mut entry = [0; 8];
            let place = std::ptr::from_ref(middle).addr() / rustix::param::page_size() * 8;
            std::fs::File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entry, place as u64).unwrap();
            // proc(5): bit 63, the page is present.
            u64::from_ne_bytes(entry) >> 63 == 1
        };
        assert!(std::hint::black_box(&WORDS).iter().all(|b| *b == 0x5a) && is_there());
        super::trim_code();
        assert!(!is_there());
        assert!(std::hint::black_box(&WORDS).iter().all(|b| *b == 0x5a) && is_there());
    }
}
