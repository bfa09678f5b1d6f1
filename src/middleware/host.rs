//! Is this request for us? Without this check a page whose name was pointed at 127.0.0.1 may talk to us as if it were
//! ours (DNS rebinding, THREATS 2; CVE-2025-66414 and kin).

use crate::http::error::{ErrorStatus, HttpError};
use crate::http::peer::Peer;
use crate::wire::host::{Host, Name};

/// A host is good if it is a loopback name, the address the connection came in at, or listed (`security.allowed_hosts`).
///
/// # Errors
/// 421.
pub fn check(host: Host<'_>, peer: Peer, allowed: &[String]) -> Result<(), HttpError> {
    let at = match peer {
        Peer::Tcp { at, .. } => host.name == Name::Ip(at.ip().to_canonical()),
        Peer::Unix => false,
    };
    if at || host.is_loopback() || allowed.iter().any(|listed| Host::parse(listed).is_some_and(|listed| host.is_listed(&listed))) {
        return Ok(());
    }
    let public = "this Host is not served here; list it in security.allowed_hosts";
    Err(HttpError::new(ErrorStatus::MisdirectedRequest, "host", public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_good() {
        let peer = Peer::Tcp { from: "10.0.0.9:5".parse().unwrap(), at: "10.0.0.1:4200".parse().unwrap() };
        let allowed = ["box.lan".to_owned(), "web.example:443".to_owned()];
        for (host, good) in [
            ("localhost:4200", true),
            ("127.0.0.1", true),
            ("10.0.0.1:4200", true),
            ("[::ffff:10.0.0.1]", true),
            ("box.lan:8080", true),
            ("web.example:443", true),
            ("web.example", false),
            ("10.0.0.2", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(check(Host::parse(host).unwrap(), peer, &allowed).is_ok(), good, "{host}");
        }
        assert!(check(Host::parse("localhost").unwrap(), Peer::Unix, &[]).is_ok());
    }
}
