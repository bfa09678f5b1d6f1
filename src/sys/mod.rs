//! Floor 1: system calls and nothing else.

pub mod root;
