//! Floor 8: file ← environment ← flags, validated.
