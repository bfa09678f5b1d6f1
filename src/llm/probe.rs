//! Asking a provider whether it answers: for its list of models, and the model itself for a few tokens.

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;

use crate::base::cancel::Cancel;
use crate::base::limits::MODEL_LIST_BYTES_MAX;
use crate::llm::bounded::First;
use crate::llm::call::accepted;
use crate::llm::engine::{Engine, Model, Place, Server, Shared};
use crate::llm::error::{Kind, LlmError};
use crate::llm::request::{Event, Message, Request};

/// Tokens that a model is asked for to prove that it answers; some servers refuse fewer.
const PROOF_TOKENS: u32 = 16;
/// Models of a provider that are known by name; the largest routers list some hundreds.
const MODELS_KEPT: usize = 2_000;
/// Most models that are named.
const LISTED_MAX: usize = 100;

/// What a provider said when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `provider/model` that answers (with `auto` resolved).
    pub model: String,
    /// Scheme, host and port; empty for offline.
    pub address: String,
    /// The server lists the model.
    pub listed: bool,
    /// The model came to an end when asked for a few tokens.
    pub answered: bool,
    /// The models that the server lists, at most 100.
    pub models: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Engine {
    /// Really asks the default model's provider: for its list of models, and the model for a few tokens (a list proves neither the
    /// key nor that the model runs). No retries, no fallbacks.
    pub async fn probe(&self, cancel: &Cancel) -> Result<Probe, LlmError> {
        cancel.guard(self.ask(cancel)).await.unwrap_or_else(|why| Err(LlmError::cancelled(why)))
    }

    /// The models that the default model's provider lists now, without `provider/`; asked each time.
    ///
    /// # Errors
    /// The provider cannot be reached, refuses the key, or has no list.
    pub async fn models(&self, cancel: &Cancel) -> Result<Vec<String>, LlmError> {
        match self.shared().models.first() {
            Some(Model { name, place: Place::Server(server), .. }) => {
                let listed = cancel.guard(self.shared().list(name, server)).await;
                listed.unwrap_or_else(|why| Err(LlmError::cancelled(why)))
            }
            _ => Ok(vec!["offline".to_owned()]),
        }
    }

    /// Has the default model say something, in a few tokens: whether it came to an end. No fallbacks.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn prove(&self, cancel: &Cancel) -> Result<bool, LlmError> {
        let request = Request { messages: vec![Message::User { text: "Hi".to_owned() }], max_tokens: PROOF_TOKENS, ..Request::default() };
        let mut call = self.call(request, cancel).only_this_model();
        let mut ended = false;
        while let Some(event) = call.next().await? {
            ended |= matches!(event, Event::Finish(_));
        }
        Ok(ended)
    }

    async fn ask(&self, cancel: &Cancel) -> Result<Probe, LlmError> {
        let shared = self.shared();
        let began = shared.clock.monotonic();
        let Some(model) = shared.models.first() else {
            return Err(LlmError::new(Kind::BadRequest, "no model is configured", "no model"));
        };
        let mut probe = Probe {
            model: model.name.clone(),
            address: String::new(),
            listed: true,
            answered: true,
            models: vec!["offline".to_owned()],
            took: Duration::ZERO,
        };
        if let Place::Server(server) = &model.place {
            probe.address = server.base.origin();
            probe.models = match shared.list(&model.name, server).await {
                Ok(models) => models,
                // No list is no failure: some servers have none.
                Err(LlmError { kind: Kind::NotFound(_) | Kind::Garbage | Kind::BadRequest, .. }) => Vec::new(),
                Err(e) => return Err(e),
            };
            if let (None, Some(first)) = (server.model(), probe.models.first()) {
                server.found(first);
            }
            probe.model = model.known_as().to_owned();
            probe.listed = server.model().is_some_and(|id| probe.models.iter().any(|m| m == id));
            probe.models.truncate(LISTED_MAX);
            probe.answered = self.prove(cancel).await?;
        }
        probe.took = shared.clock.monotonic().saturating_sub(began);
        Ok(probe)
    }
}

impl Shared {
    /// The server's models, in its order.
    pub(crate) async fn list(&self, name: &str, server: &Server) -> Result<Vec<String>, LlmError> {
        let incoming = self.send(name, server, Method::GET, "models", Vec::new()).await?;
        let incoming = accepted(self, name, incoming).await.map_err(|(e, _)| e)?;
        let body = incoming.collect(MODEL_LIST_BYTES_MAX).await.map_err(|e| LlmError::from_client(name, &e))?;
        parse(&body).ok_or_else(|| {
            LlmError::new(
                Kind::Garbage,
                format!("model `{name}`: its server's list of models is not readable"),
                "list of models is no JSON of its shape",
            )
        })
    }

    /// What `auto` is: the first model that the server lists. Remembered.
    pub(crate) async fn first_listed(&self, name: &str, server: &Server) -> Result<String, LlmError> {
        let models = self.list(name, server).await?;
        let Some(first) = models.first() else {
            let text = format!("model `{name}`: its server has no model; load one, or set engine.default_model");
            return Err(LlmError::new(Kind::NotFound(name.to_owned()), text, "the list of models is empty"));
        };
        server.found(first);
        Ok(first.clone())
    }
}

/// `{"data":[{"id"}]}`, both protocols.
fn parse(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        data: First<Item, MODELS_KEPT>,
    }
    #[derive(Deserialize)]
    struct Item {
        id: Option<String>,
    }
    let list: List = serde_json::from_slice(body).ok()?;
    // Names are shown on terminals: control characters have no place in them.
    Some(
        list.data
            .0
            .into_iter()
            .filter_map(|m| m.id)
            .filter(|id| !id.is_empty() && id.len() <= 256 && !id.chars().any(char::is_control))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_models_are_read() {
        assert_eq!(
            parse(br#"{"object":"list","data":[{"id":"a","object":"model"},{"id":"b/c"},{"x":1},{"id":"e\u001b[2J"}]}"#).unwrap(),
            ["a", "b/c"]
        );
        assert_eq!(parse(br#"{"models":[]}"#), None);
        assert_eq!(parse(b"<html>"), None);
    }
}
