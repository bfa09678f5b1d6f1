//! Which models there are: what the configured providers list, asked now and then.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::base::limits::{OFFERED_WITHIN, OFFERS_KEPT, OFFERS_RETRY};
use crate::base::log;
use crate::llm::engine::{Engine, Model, Place, Shared};

/// The lists of the configured providers, as they were last read.
#[derive(Default)]
pub(crate) struct Offers(Vec<Offer>);

/// The list of one provider.
struct Offer {
    /// Any model of it: its address and key.
    of: Model,
    /// Held while it is asked, so that it is asked once.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// `provider/model` of each, in its order.
    names: Vec<String>,
    /// Monotonic; none before it was asked.
    until: Option<Duration>,
}

impl Engine {
    /// `provider/model` of the default model, of all that the configured providers list, and `offline`. A provider is asked once in
    /// [`OFFERS_KEPT`]; one that does not answer offers what it did before.
    pub async fn models_offered(&self) -> Vec<String> {
        let mut names = vec![self.model_name().to_owned()];
        let shared = self.shared();
        for listed in futures_util::future::join_all(self.offers().0.iter().map(|offer| offer.names(shared))).await {
            names.extend(listed);
        }
        names.push("offline".to_owned());
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

impl Offers {
    /// Of these providers.
    pub(crate) fn of(providers: [Option<Model>; 2]) -> Self {
        Self(providers.into_iter().flatten().map(|of| Offer { of, kept: Mutex::default() }).collect())
    }

    /// A provider had this model in its list when it was last asked.
    pub(crate) fn known(&self, name: &str) -> bool {
        self.0.iter().any(|offer| offer.kept.try_lock().is_ok_and(|kept| kept.names.iter().any(|listed| listed == name)))
    }
}

impl Offer {
    async fn names(&self, shared: &Shared) -> Vec<String> {
        let Place::Server(server) = &self.of.place else { return Vec::new() };
        let mut kept = self.kept.lock().await;
        if kept.until.is_some_and(|until| shared.clock.monotonic() < until) {
            return kept.names.clone();
        }
        let listed = timeout(OFFERED_WITHIN, shared.list(&self.of.name, server)).await;
        let (again, failed) = match listed {
            Ok(Ok(models)) => {
                let provider = server.protocol.word();
                kept.names = models.into_iter().map(|model| format!("{provider}/{model}")).collect();
                (OFFERS_KEPT, None)
            }
            Ok(Err(error)) => (OFFERS_RETRY, Some(error.private)),
            Err(_) => (OFFERS_RETRY, Some("it took too long".to_owned())),
        };
        if let Some(why) = failed {
            log::warn("llm", format_args!("{} does not list its models: {why}", server.protocol.word()));
        }
        kept.until = Some(shared.clock.monotonic().saturating_add(again));
        kept.names.clone()
    }
}
