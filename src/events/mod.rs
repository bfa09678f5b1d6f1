//! Floor 2: the kernel event bus.
