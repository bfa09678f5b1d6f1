//! Floor 4: host and origin, rate limits, authentication, access log. `pipeline` puts them in their order.

pub mod access_log;
pub mod auth;
pub mod ends;
pub mod host;
pub mod intake;
pub mod logins;
pub mod origin;
pub mod rate;
pub mod recent;
pub mod recorded;
pub mod request_id;
pub mod settings;
pub mod tickets;
