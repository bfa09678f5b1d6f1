//! What a session log holds: one numbered record for everything that happens in a conversation (DESIGN §2).

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::base::ids::{AgentId, ApprovalId, BudgetId, KeyId, MessageId, PersonaId, SeedId, Seq, SpaceId};
use crate::base::limits::SEQ_MAX;
use crate::base::time::Timestamp;

/// One line of the log, as readers see it: `seq`, `time`, `message_id`, `kind` and the kind's own fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number in this session; never given to another record that a reader may have seen.
    #[serde(deserialize_with = "seq")]
    pub seq: Seq,
    /// Wall time of the append. Order comes from `seq`, not from here.
    pub time: Timestamp,
    /// The user message it belongs to; none where it is true of the whole session (`about`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened. `kind` on the wire is the variant in snake case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// A user message was accepted. Reserves the next [`crate::base::limits::SEQ_RESERVATION`] seqs.
    Message(UserMessage),
    /// What is true of the whole session from here on.
    About(About),
    /// More seqs are reserved, up to and with this one.
    Reserve {
        /// The last reserved seq.
        #[serde(deserialize_with = "seq")]
        until: Seq,
    },
    /// A phase started or ended.
    Phase {
        /// Which.
        phase: Phase,
        /// Started or ended.
        state: PhaseState,
        /// What came of it, in a word: `conversation`, `task`, `unclear`, `passed`, `failed`, `degraded` …
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<String>,
        /// Score of an evaluation, 0 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        score: Option<f64>,
        /// The specification it works on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed_id: Option<SeedId>,
    },
    /// A piece of the visible answer; never taken back. Kept in `<id>.run`, not in the log.
    Token {
        /// The piece.
        text: String,
    },
    /// A piece of an attempt that will still be evaluated. Kept in `<id>.run`, not in the log.
    Draft {
        /// The piece.
        text: String,
        /// Which attempt: 0 is the first, then one more for each evolution.
        attempt: u32,
    },
    /// A tool is about to start.
    ToolCall {
        /// The model's id of the call, unique within the message.
        call_id: String,
        /// The tool's name.
        name: String,
        /// Its arguments.
        arguments: Value,
        /// It changes something outside the conversation; its record is on disk before it starts.
        risky: bool,
        /// The member of a group that calls it; none where it is the run itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent_id: Option<AgentId>,
    },
    /// A tool ended.
    ToolResult {
        /// The call it answers.
        call_id: String,
        /// How it ended.
        outcome: ToolOutcome,
        /// The result, where it is at most [`crate::base::limits::RESULT_INLINE_BYTES_MAX`]; else its beginning.
        content: String,
        /// SHA-256 of the whole result, the name of its file in `<id>.d/`, where it is larger.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blob: Option<String>,
    },
    /// A model call has ended. Where the run parks, `state` holds all that it goes on from.
    Checkpoint {
        /// Model calls so far in this run.
        calls: u32,
        /// Tokens spent so far in this run.
        tokens: u64,
        /// The specification it works on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed_id: Option<SeedId>,
        /// The orchestrator's whole state, only where the run parks. Readers outside never see it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<Value>,
    },
    /// A person is asked.
    ApprovalRequested {
        /// The question.
        approval_id: ApprovalId,
        /// The tool call that waits.
        call_id: String,
        /// The tool.
        action: String,
        /// What it would act on.
        resource: String,
        /// Why, in words.
        reason: String,
        /// Exactly what would happen (for a file: path, whether it exists, the new text).
        shown: Value,
        /// SHA-256 of `shown`; the decision is bound to it.
        digest: String,
        /// When the question lapses.
        expires_at: Timestamp,
    },
    /// A person (or time, or a newer message) has decided.
    ApprovalResolved {
        /// The question.
        approval_id: ApprovalId,
        /// The answer.
        decision: Decision,
    },
    /// One model call's use.
    Usage {
        /// `provider/model`.
        model: String,
        /// Tokens read.
        input_tokens: u64,
        /// Tokens written.
        output_tokens: u64,
        /// How long it took.
        millis: u64,
    },
    /// Terminal: the answer.
    Done(Ending),
    /// Terminal: it failed; `error` says how.
    Failed(Ending),
    /// Terminal: it was stopped on purpose.
    Cancelled(Ending),
    /// Terminal: the process ended under it.
    Interrupted(Ending),
}

/// A number that a record can have; see [`SEQ_MAX`].
pub(crate) fn seq<'de, D: Deserializer<'de>>(d: D) -> Result<Seq, D::Error> {
    let seq = Seq::deserialize(d)?;
    if seq <= SEQ_MAX { Ok(seq) } else { Err(D::Error::custom("a seq of at most 2^53 - 1")) }
}

/// The same where there may be none.
pub(crate) fn seq_if_any<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Seq>, D::Error> {
    #[derive(Deserialize)]
    struct Known(#[serde(deserialize_with = "seq")] Seq);
    Ok(Option::<Known>::deserialize(d)?.map(|known| known.0))
}

/// An accepted user message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserMessage {
    /// The text.
    pub content: String,
    /// The client's label for the user; no identity.
    pub user_id: String,
    /// Where it came in: `rest`, `ws`, `v1`, `import` …
    pub channel: String,
    /// The run that answers it.
    pub agent_id: AgentId,
    /// The space it was said in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<SpaceId>,
    /// The token budget that its model calls use; none where its key has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_id: Option<BudgetId>,
    /// The API key that it came with; none where the server itself speaks. The audit log names it for what the run does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// It came with an idempotency key (the message id is derived from it).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// SHA-256 of the conversation that came with it and stands before it; a retry is compared with that, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// Workspace paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
}

/// What is true of a whole session. Each record holds all of it; the newest one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The name that someone gave it; without one its first message gives the title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where it is held. A later message that names a space moves it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<SpaceId>,
    /// In which manner it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona_id: Option<PersonaId>,
    /// What the client that began it tells the agent for all of it (the `system` messages of `/v1`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// A change of [`About`]: what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The title; `Some(None)` gives it back to the first message.
    pub title: Option<Option<String>>,
    /// The space; `Some(None)` takes it out of its space.
    pub space_id: Option<Option<SpaceId>>,
    /// The persona; `Some(None)` is none.
    pub persona_id: Option<Option<PersonaId>>,
}

impl About {
    /// With this change.
    pub fn with(mut self, change: Change) -> Self {
        self.title = change.title.unwrap_or(self.title);
        self.space_id = change.space_id.unwrap_or(self.space_id);
        self.persona_id = change.persona_id.unwrap_or(self.persona_id);
        self
    }
}

/// The end of a message's run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// The whole visible answer; where it was cut, what there was.
    pub text: String,
    /// The phase reached.
    pub phase: Phase,
    /// What the last evaluation said, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_passed: Option<bool>,
    /// The specification that the text is a result of; where there is none, the one that was worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_id: Option<SeedId>,
    /// The text is our questions about what is wanted: the next message answers them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// What went wrong, in public words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// A failure in public words: never an internal text, a secret or a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `model` (→ 502), `deadline` (→ 504), `internal` (→ 500), `cancelled` (→ 409), `interrupted` (→ 503), `token_budget` (→ 429),
    /// `disk_full` (→ 507), `budget_unwritten` (→ 503).
    pub code: String,
    /// A sentence that says what to do next.
    pub message: String,
}

impl Problem {
    /// Our own fault, in public words.
    pub fn internal(message: &str) -> Self {
        Self { code: "internal".to_owned(), message: message.to_owned() }
    }
}

/// The five phases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Phase {
    /// Conversation, clear task, or unclear?
    #[default]
    Interview,
    /// The specification.
    Seed,
    /// The tool loop.
    Execute,
    /// Does it meet the specification?
    Evaluate,
    /// A child specification with the smallest repair.
    Evolve,
}

/// Beginning or end of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseState {
    /// It begins.
    Started,
    /// It is over.
    Ended,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// It did what it says.
    Ok,
    /// It says what went wrong; nothing was done.
    Error,
    /// A person refused, or nobody answered in time.
    Refused,
    /// It was started and the process ended: it may or may not have happened, and it is never run again.
    Unknown,
}

/// The answer to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Yes, exactly what was shown.
    Approved,
    /// No.
    Rejected,
    /// Nobody answered in time.
    Expired,
}

impl Body {
    /// A piece lies in `<id>.run` and goes when the terminal record is durable.
    pub fn is_piece(&self) -> bool {
        matches!(self, Self::Token { .. } | Self::Draft { .. })
    }
    /// The last record of its message.
    pub fn ending(&self) -> Option<&Ending> {
        match self {
            Self::Done(e) | Self::Failed(e) | Self::Cancelled(e) | Self::Interrupted(e) => Some(e),
            _ => None,
        }
    }
    /// Must be on disk before a reader sees it (the table of DESIGN §2).
    pub fn needs_sync(&self) -> bool {
        match self {
            Self::Message(_) | Self::About(_) | Self::Reserve { .. } | Self::ApprovalRequested { .. } | Self::ApprovalResolved { .. } => {
                true
            }
            Self::ToolCall { risky, .. } => *risky,
            Self::Checkpoint { state, .. } => state.is_some(),
            _ => self.ending().is_some(),
        }
    }
    /// The word that stands in `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::About(_) => "about",
            Self::Reserve { .. } => "reserve",
            Self::Phase { .. } => "phase",
            Self::Token { .. } => "token",
            Self::Draft { .. } => "draft",
            Self::ToolCall { .. } => "tool_call",
            Self::ToolResult { .. } => "tool_result",
            Self::Checkpoint { .. } => "checkpoint",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalResolved { .. } => "approval_resolved",
            Self::Usage { .. } => "usage",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
            Self::Interrupted(_) => "interrupted",
        }
    }
}
