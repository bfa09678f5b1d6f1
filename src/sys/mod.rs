//! Floor 1: system calls and nothing else.

pub mod counted_disk;
pub mod disk;
pub mod fault_disk;
pub mod limits;
pub mod os;
pub mod process;
pub mod root;
pub mod signals;
