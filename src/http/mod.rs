//! Floor 1, on wire and sys: an HTTP toolbox without product nouns, and the one outgoing client.

pub mod body;
pub mod bound;
pub mod client;
pub mod connection;
mod crowd;
pub mod error;
pub mod gate;
pub mod line;
pub mod listener;
mod lookup;
pub mod peer;
pub mod place;
pub mod proxies;
mod socket;
pub mod sse;
mod turnstile;
pub mod ws;

pub use body::Body;

/// What a handler answers.
pub type Response = hyper::Response<Body>;
