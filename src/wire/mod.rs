//! Floor 1: bytes ⇄ values. No I/O, no async, no clock; every function is total and bounded.
