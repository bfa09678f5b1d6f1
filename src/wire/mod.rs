//! Floor 1: bytes ⇄ values. No I/O, no async, no clock; every function is total and bounded.

pub mod query;
pub mod sse_in;
pub mod sse_out;
pub mod url;

pub mod front_matter;
pub mod words;
