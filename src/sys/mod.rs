//! Floor 1: system calls and nothing else.

pub mod disk;
pub mod root;
