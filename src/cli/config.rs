//! `config show`, `config check`, `config default`, `config table`.

use super::args::Parsed;
use super::load;
use super::output::{Failure, print, tell};
use super::setup;
use crate::config::{Env, default_file, sandbox, table as markdown};

/// The effective configuration.
pub(super) fn show(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let config = load(parsed, env)?;
    print(format_args!("{}", config.show()));
    notes(&config);
    Ok(())
}

/// Whether it is right.
pub(super) fn check(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let config = load(parsed, env)?;
    setup::listen(parsed, &config)?;
    if let Some(why) = sandbox::hindrance(&config) {
        return Err(Failure::usage(why));
    }
    notes(&config);
    print(format_args!("the configuration is fine; the model is {}\n", config.model().model));
    Ok(())
}

/// A file to begin with.
pub(super) fn default() -> Result<(), Failure> {
    print(format_args!("{}", default_file()));
    Ok(())
}

/// Every key as Markdown.
pub(super) fn table() -> Result<(), Failure> {
    print(format_args!("{}", markdown()));
    Ok(())
}

fn notes(config: &crate::config::Config) {
    for note in config.notes() {
        tell(format_args!("note: {note}"));
    }
}
