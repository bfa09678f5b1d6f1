//! Finding the gateway of a home, and calling it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};

use super::output::Failure;
use crate::base::secret::Secret;
use crate::config::Env;
use crate::http::client::{Client, ClientError, ClientSettings, Outgoing};
pub(super) use crate::http::place::Place;
use crate::sys::disk::holder;
use crate::sys::owner;

/// Most bytes of an answer that is read whole.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A gateway and the key to it.
pub(super) struct Reach {
    pub(super) place: Place,
    /// None where there is no key to be found; with authentication off that is fine.
    pub(super) token: Option<Secret>,
    home: PathBuf,
    client: Client,
}

impl Reach {
    /// The gateway that runs in this home, by `<home>/address`; the key is `OXIOS_API_KEY`, else `<home>/token`.
    ///
    /// SECURITY: the address of one that was killed stays behind, and whoever listens there now would be sent the key. So it is believed
    /// only while a gateway holds the home.
    pub(super) fn find(home: &Path, env: &Env) -> Result<Self, Failure> {
        let (file, lock) = (home.join("address"), home.join("lock"));
        let held = holder(&lock).map_err(|e| Failure::failed(format!("{} cannot be looked at: {e}", lock.display())))?;
        if held.is_none() {
            return Err(not_running(home));
        }
        let address = match owner::read(home, "address") {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_running(home)),
            Err(e) => return Err(Failure::failed(format!("{} cannot be read: {e}", file.display()))),
        };
        let place = Place::parse(address.trim())
            .ok_or_else(|| Failure::failed(format!("{} holds no address; restart the gateway", file.display())))?;
        let token = match env.get("OXIOS_API_KEY").filter(|key| !key.trim().is_empty()) {
            Some(key) => Some(Secret::new(key.trim())),
            None => owner::read(home, "token").ok().map(|text| Secret::new(text.trim())),
        };
        Ok(Self { place, token, home: home.to_owned(), client: Client::new(ClientSettings::default()) })
    }

    /// One call; the answer is read whole. Waits at most `patience` for each step.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        patience: Duration,
    ) -> Result<(StatusCode, Vec<u8>), Failure> {
        let target = self.place.target().map_err(|e| Failure::failed(format!("{}: {e}", self.place)))?;
        let mut headers = Vec::new();
        if let Some(value) = self.authorization()? {
            headers.push((AUTHORIZATION, value));
        }
        if body.is_some() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        let body = body.map_or_else(Bytes::new, |value| Bytes::from(value.to_string()));
        let outgoing = Outgoing {
            target,
            method,
            path_and_query: path.to_owned(),
            headers,
            body,
            connect: patience,
            first_byte: patience,
            between: patience,
        };
        let incoming = self.client.send(outgoing).await.map_err(|e| self.unreachable(&e))?;
        let status = incoming.status;
        let bytes = incoming.collect(ANSWER_BYTES_MAX).await.map_err(|e| self.unreachable(&e))?;
        Ok((status, bytes))
    }

    /// The value of `Authorization`, where there is a key.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
            .map_err(|_| Failure::failed("the key has characters that no key has; look at OXIOS_API_KEY or <home>/token"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// A curl command that posts, up to the path; with the key where one is needed.
    pub(super) fn curl_post(&self) -> String {
        let auth = if self.token.is_some() { bearer(&self.home.join("token")) } else { String::new() };
        format!("curl -X POST {auth}{}", curl(&self.place))
    }

    /// What to say when the address does not answer.
    pub(super) fn gone(&self, why: &str) -> Failure {
        Failure::failed(format!(
            "nothing answers at {} ({why})\n  The gateway of {} is not running any more. Start it: oxios-edge serve{}",
            self.place,
            self.home.display(),
            home_option(&self.home),
        ))
    }

    fn unreachable(&self, e: &ClientError) -> Failure {
        use crate::http::client::Stage;
        match e.stage {
            // Its private text begins with place and stage, which the sentence names already.
            Stage::Connect | Stage::Resolve => self.gone(e.private.rsplit(": ").next().unwrap_or_default()),
            _ => Failure::failed(format!("{}: {}", self.place, e.public)),
        }
    }
}

/// What a refusal means for the person at the terminal.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|value| value.get("error")).and_then(|error| error.as_str()).map(super::output::harmless);
    Failure::failed(match (status, said) {
        (StatusCode::UNAUTHORIZED, _) => {
            "the gateway does not take this key (401); look at OXIOS_API_KEY, or remove it to use <home>/token".to_owned()
        }
        (StatusCode::FORBIDDEN, None) => "this key may not do that (403); see `oxios-edge key list` for its scopes".to_owned(),
        (StatusCode::TOO_MANY_REQUESTS, None) => "too many requests (429); wait a moment".to_owned(),
        (status, Some(text)) => format!("{text} ({})", status.as_u16()),
        (status, None) => format!("the gateway answered {status}"),
    })
}

/// No gateway runs in this home.
fn not_running(home: &Path) -> Failure {
    Failure::failed(format!(
        "no gateway runs in {home}\n  Start one in another terminal: oxios-edge serve{option}\n  Or name another home: --home DIR",
        home = home.display(),
        option = home_option(home)
    ))
}

/// ` --home DIR`, where the home is not the usual one.
pub(super) fn home_option(home: &Path) -> String {
    let usual = std::env::home_dir().map(|dir| dir.join(".oxios"));
    if usual.as_deref() == Some(home) { String::new() } else { format!(" --home {}", quoted(&home.display().to_string())) }
}

/// curl's words for a place, with the URL's beginning last.
pub(super) fn curl(place: &Place) -> String {
    match place {
        Place::Tcp(address) => format!("http://{address}"),
        Place::Unix(path) => format!("--unix-socket {} http://localhost", quoted(&path.display().to_string())),
    }
}

/// curl's header option that reads the key from its file, so that the key itself is never shown.
pub(super) fn bearer(token: &Path) -> String {
    format!("-H \"Authorization: Bearer $(cat {})\" ", quoted(&token.display().to_string()))
}

/// A word for a POSIX shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("/home/a"), "/home/a");
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("/a'b"), r"'/a'\''b'");
        assert_eq!(quoted("$(x)"), "'$(x)'");
    }

    #[test]
    fn no_gateway_is_said_with_what_to_do() {
        let Err(failure) = Reach::find(Path::new("/nowhere/at/all"), &Env::new()) else { panic!("found") };
        assert_eq!(failure.code, 1);
        assert!(failure.text.contains("oxios-edge serve --home /nowhere/at/all"), "{}", failure.text);
    }
}
