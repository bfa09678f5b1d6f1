//! Vectors of texts, from the `/embeddings` of an OpenAI-compatible server: texts of like meaning get like vectors.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderValue};
use serde::Serialize;

use crate::base::limits::{MODEL_ERROR_BYTES_MAX, MODEL_EVENT_BYTES_MAX};
use crate::base::secret::Secret;
use crate::http::client::{Client, Outgoing, Target};
use crate::llm::engine::OPENAI_URL;
use crate::llm::error::{Kind, LlmError};
use crate::wire::url::{BadUrl, Url};
use crate::wire::vectors;

/// Settings of the embedder (`memory.embedding_*`).
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `openai/<model>`.
    pub model: String,
    /// Address with its version segment; empty: OpenAI's own.
    pub base_url: String,
    /// The key for that address and no other; empty: none is sent.
    pub api_key: Secret,
    /// Time to connect.
    pub connect: Duration,
    /// Time to the first byte of the answer, and between two pieces of it.
    pub wait: Duration,
}

impl Settings {
    /// Where its server is.
    ///
    /// # Errors
    /// The address is none.
    pub fn address(&self) -> Result<Url, BadUrl> {
        Url::parse(if self.base_url.is_empty() { OPENAI_URL } else { &self.base_url })
    }
}

/// A model that makes vectors.
pub struct Embedder {
    name: String,
    base: Url,
    key: Option<HeaderValue>,
    connect: Duration,
    wait: Duration,
    client: Client,
}

impl Embedder {
    /// Checks the settings (model name, address, key characters); opens nothing.
    pub fn new(settings: Settings, client: Client) -> Result<Self, LlmError> {
        let wrong = |text: String| LlmError::new(Kind::BadRequest, text.clone(), text);
        let base = settings.address();
        let name = settings.model;
        if !name
            .strip_prefix("openai/")
            .is_some_and(|model| !model.is_empty() && model.len() <= 256 && !model.chars().any(char::is_control))
        {
            return Err(wrong("memory.embedding_model: expected openai/<model>".to_owned()));
        }
        let base = base.map_err(|e| wrong(format!("memory.embedding_base_url: {e}")))?;
        let key = settings.api_key.reveal().trim();
        let key = (!key.is_empty()).then(|| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
        let mut key = key.map_err(|_| wrong("memory.embedding_api_key has characters that no header can carry".to_owned()))?;
        key.iter_mut().for_each(|key| key.set_sensitive(true));
        Ok(Self { name, base, key, connect: settings.connect, wait: settings.wait, client })
    }

    /// `openai/<model>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells its vectors from those of any other model: model and address.
    pub fn identity(&self) -> String {
        format!("{} at {}", self.name, self.base)
    }

    /// One vector of length one for each text. No retries: whoever asks has another way, or asks again later.
    pub async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, LlmError> {
        #[derive(Serialize)]
        struct Body<'a> {
            model: &'a str,
            input: &'a [&'a str],
            encoding_format: &'a str,
        }
        let model = self.name.strip_prefix("openai/").unwrap_or_default();
        let body = serde_json::to_vec(&Body { model, input: texts, encoding_format: "float" })
            .map_err(|e| LlmError::new(Kind::BadRequest, "the texts would not serialise", e.to_string()))?;
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        headers.extend(self.key.clone().map(|key| (header::AUTHORIZATION, key)));
        let outgoing = Outgoing {
            target: Target::Url(self.base.clone()),
            method: Method::POST,
            path_and_query: self.base.beneath("embeddings"),
            headers,
            body: Bytes::from(body),
            connect: self.connect,
            first_byte: self.wait,
            between: self.wait,
        };
        let incoming = self.client.send(outgoing).await.map_err(|e| LlmError::from_client(&self.name, &e))?;
        let status = incoming.status;
        if !status.is_success() {
            let said = incoming.collect(MODEL_ERROR_BYTES_MAX).await.unwrap_or_default();
            return Err(LlmError::from_status(&self.name, status.as_u16(), &said, None));
        }
        let body = incoming.collect(MODEL_EVENT_BYTES_MAX).await.map_err(|e| LlmError::from_client(&self.name, &e))?;
        vectors::answer(&body, texts.len()).map_err(|what| {
            LlmError::new(
                Kind::Garbage,
                format!("model `{}`: its server's vectors are not readable", self.name),
                format!("embeddings: {what}"),
            )
        })
    }
}
