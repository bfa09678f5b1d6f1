//! Floor 2: everything that is kept: the home, sessions, keys, atomic files.

pub mod record;
