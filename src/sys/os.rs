//! The one file with `unsafe`: what the system offers only through C. Each use says why it is sound.
#![allow(unsafe_code)]

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

#[cfg(test)]
mod tests {
    #[test]
    fn trimming_leaves_what_is_in_use() {
        let kept = vec![7u8; 1 << 20];
        super::trim_heap();
        assert!(kept.iter().all(|b| *b == 7));
    }
}
