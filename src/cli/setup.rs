//! Where the server listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::args::Parsed;
use super::output::Failure;
use crate::config::Config;
use crate::http::listener::Listen;

/// Where to listen: `--listen`, else `gateway.host` and `gateway.port`.
pub(super) fn listen(parsed: &Parsed, config: &Config) -> Result<Listen, Failure> {
    if let Some(text) = parsed.value("listen") {
        let listen = place(text)
            .ok_or_else(|| Failure::usage(format!("--listen {text}: write ADDR:PORT, for example 127.0.0.1:4200, or unix:/path")))?;
        // `<home>/address` is read from other working directories.
        return Ok(match listen {
            Listen::Unix(path) => Listen::Unix(std::path::absolute(&path).unwrap_or(path)),
            tcp => tcp,
        });
    }
    let ip = match config.text("gateway.host").unwrap_or("127.0.0.1") {
        "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
        text => text.parse().map_err(|_| Failure::usage(format!("gateway.host: {text:?} is no IP address")))?,
    };
    Ok(Listen::Tcp(SocketAddr::new(ip, u16::try_from(config.whole("gateway.port")).unwrap_or_default())))
}

/// The place that `--listen` names; none where it is none.
pub(super) fn place(text: &str) -> Option<Listen> {
    Listen::parse(&text.replacen("localhost:", "127.0.0.1:", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Invocation, parse};
    use crate::config::Env;
    use std::path::Path;

    fn config(text: &str) -> Config {
        Config::from_text(Path::new("/h"), text, &Env::new(), &[]).unwrap()
    }
    fn where_to(args: &[&str], text: &str) -> Result<Listen, Failure> {
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        let Ok(Invocation::Run(parsed)) = parse(&args) else { panic!("{args:?}") };
        listen(&parsed, &config(text))
    }

    #[test]
    fn the_place_to_listen() {
        let tcp = |text: &str| Listen::Tcp(text.parse().unwrap());
        assert_eq!(where_to(&[], "").unwrap(), tcp("127.0.0.1:4200"));
        assert_eq!(where_to(&[], "[gateway]\nhost = \"::1\"\nport = 0\n").unwrap(), tcp("[::1]:0"));
        assert_eq!(where_to(&["--listen", "localhost:80"], "").unwrap(), tcp("127.0.0.1:80"));
        assert_eq!(where_to(&["--listen", "unix:/run/x"], "").unwrap(), Listen::Unix("/run/x".into()));
        assert_eq!(where_to(&["--listen", "4200"], "").unwrap_err().code, 2);
    }
}
