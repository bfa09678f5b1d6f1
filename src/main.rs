//! The door of the binary: see `oxios_edge::cli`.

fn main() -> std::process::ExitCode {
    // Variables that are no UTF-8 set nothing of ours.
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    oxios_edge::cli::main(std::env::args_os().skip(1), env)
}
