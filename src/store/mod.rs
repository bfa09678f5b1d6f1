//! Floor 2: everything that is kept: the home, sessions, keys, atomic files.
//!
//! A session is opened by `sessions`, lives in `session` (its visible side in `state`, its writing side in `writer`), is read by
//! `tail`, `turns` and `projection`, and lies in files that `open` repairs, `lines` reads and `log_file` writes;
//! `durability` keeps their names. Turns that were held elsewhere come by `import`, `bring_in`, `fork`, or as the `history` of its
//! first message. `backup` puts all of a home into one file, and back.

pub mod atomic;
pub mod audit;
pub mod backup;
mod blobs;
mod bring_in;
mod core;
mod durability;
pub mod error;
pub mod export;
mod files;
pub mod fork;
pub mod history;
pub mod home;
pub(crate) mod import;
mod index;
pub mod keys;
mod lines;
mod log_file;
mod open;
pub mod projection;
pub mod prune;
pub mod record;
mod remove;
pub mod search;
pub mod session;
pub mod sessions;
pub mod shelf;
mod space;
mod state;
pub mod tail;
#[cfg(test)]
pub(crate) mod testing;
pub mod turns;
mod writer;

pub use error::StoreError;
