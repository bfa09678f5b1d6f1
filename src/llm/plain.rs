//! A plain call: what a client asks of a model in OpenAI's words goes to a server of that language as it came. Elsewhere it is refused
//! where the answer would be another one without it; what only nudges a model may go unheard there.

use serde_json::{Map, Value};

use crate::llm::engine::{Place, Protocol};
use crate::llm::request::{Request, json_tokens};

/// Fields of OpenAI's, beside or instead of those that [`Request`] has in its own terms (`seed`, `logit_bias`, `response_format`,
/// `messages` and `tools` with all that they say …). Whoever makes it has checked their names, and of those that this server knows types
/// and bounds: a server that speaks OpenAI's language gets them as they are.
#[derive(Debug, Clone, Default)]
pub struct Plain(pub Map<String, Value>);

/// Fields of llama.cpp's and vLLM's that hold an answer to a form, or say where it ends.
const FORMS: [&str; 7] =
    ["grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "stop_token_ids", "structured_outputs"];

impl Plain {
    /// The answer is to say how likely its words were.
    pub(crate) fn logprobs(&self) -> bool {
        self.0.get("logprobs") == Some(&Value::Bool(true))
    }

    /// It has the conversation in OpenAI's words.
    pub(crate) fn tells(&self) -> bool {
        self.0.contains_key("messages")
    }

    /// The tokens of all that it says, estimated.
    pub(crate) fn tokens(&self) -> u64 {
        self.0.values().map(|value| u64::from(json_tokens(value))).sum()
    }

    /// Several tools must not be called at once.
    pub(crate) fn one_call(&self) -> bool {
        self.0.get("parallel_tool_calls") == Some(&Value::Bool(false))
    }

    /// A field that a model in this place cannot do, and without which the answer would be another one. What only nudges a model
    /// (`seed`, penalties, `top_k` and its like, `reasoning_effort`, `strict`) may go unheard.
    fn beyond(&self, place: &Place) -> Option<&'static str> {
        let offline = match place {
            Place::Server(server) if server.protocol == Protocol::OpenAi => return None,
            Place::Server(_) => false,
            Place::Offline => true,
        };
        if let Some(form) = FORMS.into_iter().find(|name| self.0.contains_key(*name)) {
            return Some(form);
        }
        let biased = self.0.get("logit_bias").and_then(Value::as_object).is_some_and(|bias| !bias.is_empty());
        let form = self.0.get("response_format").and_then(|format| format.get("type")).and_then(Value::as_str);
        match form {
            _ if self.logprobs() => Some("logprobs"),
            _ if biased => Some("logit_bias"),
            Some("json_object") => Some("response_format"),
            Some("json_schema") if offline => Some("response_format"),
            _ => None,
        }
    }
}

impl Request {
    /// The field of a plain call that a model in this place cannot do; see [`Plain`].
    pub(crate) fn beyond(&self, place: &Place) -> Option<&'static str> {
        self.plain.as_ref().and_then(|plain| plain.beyond(place))
    }
}
