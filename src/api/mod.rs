//! Floor 7: one file an area; routes.rs is the one table.
