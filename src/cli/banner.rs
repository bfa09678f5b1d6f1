//! What a person sees at the start.

use std::path::Path;

use super::reach::{Place, bearer, curl, home_option};

/// Everything that the text needs.
pub(super) struct Banner<'a> {
    /// `http://…` or `unix:…`, as the listener says.
    pub(super) address: &'a str,
    /// Where everything lies.
    pub(super) home: &'a Path,
    /// The engine's label, and why it was chosen.
    pub(super) model: &'a str,
    pub(super) because: &'a str,
    /// A key is asked for.
    pub(super) auth: bool,
    /// This start made the home.
    pub(super) first: bool,
    /// How this program was called, for the line to copy.
    pub(super) program: &'a str,
}

impl std::fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = Place::parse(self.address);
        let shown = place.as_ref().map_or_else(|| self.address.to_owned(), Place::to_string);
        let token = self.home.join("token");
        let made = if self.first { " (just made)" } else { "" };
        writeln!(f, "oxios-edge {} is ready", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  address  {shown}")?;
        writeln!(f, "  home     {}{made}", self.home.display())?;
        if self.auth {
            writeln!(f, "  key      in the file {}", token.display())?;
        } else {
            writeln!(f, "  key      none is asked for (security.auth_enabled = false)")?;
        }
        writeln!(f, "  model    {} ({})", self.model, self.because)?;
        if let Some(place) = place {
            let auth = if self.auth { bearer(&token) } else { String::new() };
            writeln!(f, "Try it:")?;
            writeln!(f, "  curl -sN {auth}-H 'content-type: application/json' -d '{{\"content\":\"hello\"}}' {}/api/chat", curl(&place))?;
            write!(f, "  {} ask{} \"hello\"", self.program, home_option(self.home))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(address: &str, auth: bool) -> String {
        let home = Path::new("/tmp/a b");
        let program = "target/release/oxios-edge";
        Banner { address, home, model: "offline", because: "no model is configured", auth, first: true, program }.to_string()
    }

    #[test]
    fn it_names_the_key_file_and_a_curl_line() {
        let text = banner("http://0.0.0.0:4200", true);
        let curl = "curl -sN -H \"Authorization: Bearer $(cat '/tmp/a b/token')\" -H 'content-type: application/json' -d '{\"content\":\"hello\"}' http://127.0.0.1:4200/api/chat";
        assert!(text.contains(curl), "{text}");
        assert!(text.contains("in the file /tmp/a b/token") && text.contains("offline"));
        assert!(text.contains("  target/release/oxios-edge ask --home '/tmp/a b' \"hello\""), "{text}");
        let text = banner("unix:/run/ox", false);
        assert!(text.contains("--unix-socket /run/ox http://localhost/api/chat") && !text.contains("Bearer"), "{text}");
    }
}
