//! What every request is checked against (`security.*`).

use crate::base::secret::Secret;

/// What the checks need to know of the configuration; swapped whole while running.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `security.allowed_hosts`: names a `Host` may have besides loopback and the address a connection came in at.
    pub allowed_hosts: Vec<String>,
    /// `security.cors_origins`: origins a browser may call from, as `https://example.org`.
    pub cors_origins: Vec<String>,
    /// `security.rate_limit_per_minute`; 0 is off. A key's own limit goes before it.
    pub rate_limit_per_minute: u32,
    /// `security.auth_enabled`; off, everybody is the first owner with every scope.
    pub auth_enabled: bool,
    /// `security.query_token`.
    pub query_token: QueryToken,
    /// `metrics.public`: `/metrics` needs no key.
    pub metrics_public: bool,
    /// `OXIOS_API_KEY`: one more key, of the first owner with every scope; `app` gives it to the key table.
    pub extra_key: Option<Secret>,
}

/// Where `?token=` works (`security.query_token`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueryToken {
    /// From loopback peers and the Unix socket.
    #[default]
    Loopback,
    /// From everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            rate_limit_per_minute: 600,
            auth_enabled: true,
            query_token: QueryToken::default(),
            metrics_public: false,
            extra_key: None,
        }
    }
}

impl QueryToken {
    /// Whether a peer may use it; `local`: over loopback or the Unix socket, and no proxy in between.
    pub fn allows(self, local: bool) -> bool {
        match self {
            Self::Loopback => local,
            Self::Always => true,
            Self::Never => false,
        }
    }
}
