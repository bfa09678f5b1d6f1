//! Floor 2: models.

pub mod request;
