//! The door of the binary: see `oxios_edge::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut env, mut unread) = (Vec::new(), Vec::new());
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => env.push((name, value)),
            (Ok(name), Err(_)) if name.starts_with("OXIOS_") => unread.push(name),
            // Whatever else is no UTF-8 sets nothing of ours.
            _ => {}
        }
    }
    if !unread.is_empty() {
        eprintln!("oxios-edge: {}: no UTF-8", unread.join(", "));
        return ExitCode::from(2);
    }
    oxios_edge::cli::main(std::env::args_os().skip(1), env.into_iter().collect())
}
