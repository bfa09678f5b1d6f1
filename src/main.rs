//! The door of the binary: see `oxios_edge::cli`.

fn main() {}
