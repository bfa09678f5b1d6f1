//! Floor 1: system calls and nothing else.

pub mod counted_disk;
pub mod delayed_disk;
pub mod disk;
pub mod fault_disk;
pub mod handed;
pub mod landlock;
pub mod limits;
#[cfg(test)]
pub mod memory_disk;
pub mod notify;
pub mod os;
pub mod owner;
pub mod process;
mod real_dir;
pub mod root;
pub mod signals;
