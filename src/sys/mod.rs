//! Floor 1: system calls and nothing else.

<<<<<<< HEAD
pub mod disk;
=======
pub mod limits;
pub mod os;
>>>>>>> 874edb8 (wire, http: strict parsing, connections with their limits, events, WebSockets)
pub mod root;
pub mod signals;
