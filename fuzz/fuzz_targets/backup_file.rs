//! See `oxios_edge::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oxios_edge::fuzzing::run("backup_file", data));
