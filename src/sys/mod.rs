//! Floor 1: system calls and nothing else.

pub mod disk;
pub mod fault_disk;
pub mod limits;
pub mod os;
pub mod root;
pub mod signals;
