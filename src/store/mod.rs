//! Floor 2: everything that is kept: the home, sessions, keys, atomic files.

pub mod atomic;
pub mod error;
pub mod home;
pub mod keys;
pub mod record;
pub mod session;
pub mod sessions;
pub mod tail;
pub mod turns;

pub use error::StoreError;
