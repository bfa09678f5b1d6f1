//! Floor 1, on wire and sys: an HTTP toolbox without product nouns, and the one outgoing client.

pub mod client;
