//! Floor 4: host and origin, rate limits, authentication, request id, access log.

pub mod auth;
pub mod tickets;
