//! Paths beside those that get the plain answer: of the baselines, and the product's.

/// Readers of events.
pub(crate) const EVENTS: &str = "/api/events";
/// WebSockets.
pub(crate) const SOCKET: &str = "/api/chat/stream";
/// Each request here is one event; in the product, too, and it writes nothing to the disk there.
pub(crate) const SEARCH: &str = "/api/memory/search";
