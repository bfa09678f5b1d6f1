//! What an audit record says: who did what, on what, and what came of it; never content.

use std::borrow::Cow;
use std::fmt;

use crate::base::digest::{Keyed, hex};
use crate::base::ids::{KeyId, OwnerId};

/// Whose doing it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Who {
    /// The owner; none where the server itself acted.
    pub owner: Option<OwnerId>,
    /// The key that was shown, or that began the run which acts; none where the clock or the command line did.
    pub key: Option<KeyId>,
}

/// What was done. Closed: what is not here cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A request that changes something: method and path pattern of its row.
    Request(&'static str, &'static str),
    /// A message came in by another way than a request of its own (a WebSocket frame, a scheduled task).
    Message,
    /// A tool of ours, by its name.
    Tool(&'static str),
    /// A tool of another server; its owner chose its name, so its HMAC stands here. See [`What::foreign_tool`].
    ForeignTool([u8; NAME_BYTES]),
    /// A person is asked.
    ApprovalAsked,
    /// A question to a person was decided or lapsed.
    ApprovalDecided,
    /// A key was made, changed or revoked on the command line.
    Key,
    /// The configuration was changed other than by a request.
    Configuration,
    /// A session was pruned by age or number.
    Pruned,
    /// The server started.
    Started,
    /// The server stopped.
    Stopped,
    /// A torn end of the audit log was cut after a crash.
    TailCut,
    /// The log was switched off, or the server started with it off: what follows has no records until it is on again.
    Off,
    /// Actions went on although their records could not be written; the outcome says how many.
    Lost,
}

/// Bytes of the HMAC of a name that are written: enough that no two names meet.
const NAME_BYTES: usize = 16;

/// What stands for a name that somebody chose.
fn name(keyed: &Keyed, text: &str) -> [u8; NAME_BYTES] {
    let mut out = [0; NAME_BYTES];
    for (to, from) in out.iter_mut().zip(keyed.mac("audit name", &[text.as_bytes()])) {
        *to = from;
    }
    out
}

/// On what it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// An id of ours, as it is.
    Id(uuid::Uuid),
    /// The HMAC of a name that somebody chose; see [`On::name`].
    Name(String),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is about to be done; a second record tells the end. Where that is missing, the outcome is not known.
    Begun,
    /// The status that the request was answered with.
    Status(u16),
    /// It was done.
    Done,
    /// It was tried and failed.
    Failed,
    /// A person said yes.
    Approved,
    /// A person said no.
    Rejected,
    /// Nobody said anything in time.
    Expired,
    /// So many.
    Count(u64),
    /// The client was gone before there was an answer.
    Gone,
}

/// One thing to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose doing.
    pub who: Who,
    /// What.
    pub what: What,
    /// On what.
    pub on: Option<On>,
    /// What came of it.
    pub outcome: Outcome,
}

impl Event {
    /// What the server itself did.
    pub fn of_server(what: What) -> Self {
        Self { who: Who::default(), what, on: None, outcome: Outcome::Done }
    }
}

impl On {
    /// Something by the text that names it: an id as it is, any other text as its HMAC under the home's secret.
    pub fn name(keyed: &Keyed, text: &str) -> Self {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Self::Id(id),
            _ => Self::Name(hex(&name(keyed, text))),
        }
    }
    /// An id by its 16 bytes.
    pub fn id(bytes: &[u8; 16]) -> Self {
        Self::Id(uuid::Uuid::from_bytes(*bytes))
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => fmt::Display::fmt(&id.hyphenated(), f),
            Self::Name(mac) => write!(f, "hmac:{mac}"),
        }
    }
}

impl What {
    /// A tool of another server, by the name that the model calls it by.
    pub fn foreign_tool(keyed: &Keyed, tool: &str) -> Self {
        Self::ForeignTool(name(keyed, tool))
    }
    /// Its word in the log.
    pub fn word(self) -> Cow<'static, str> {
        match self {
            Self::Request(method, path) => format!("{method} {path}").into(),
            Self::Tool(name) => format!("tool {name}").into(),
            Self::ForeignTool(name) => format!("tool mcp hmac:{}", hex(&name)).into(),
            Self::Message => "message".into(),
            Self::ApprovalAsked => "approval asked".into(),
            Self::ApprovalDecided => "approval decided".into(),
            Self::Key => "key".into(),
            Self::Configuration => "configuration".into(),
            Self::Pruned => "session pruned".into(),
            Self::Started => "server started".into(),
            Self::Stopped => "server stopped".into(),
            Self::TailCut => "tail cut".into(),
            Self::Off => "audit off".into(),
            Self::Lost => "records lost".into(),
        }
    }
}

impl Outcome {
    /// Its word in the log.
    pub fn word(self) -> Cow<'static, str> {
        match self {
            Self::Begun => "begun".into(),
            Self::Status(status) => status.to_string().into(),
            Self::Done => "done".into(),
            Self::Failed => "failed".into(),
            Self::Approved => "approved".into(),
            Self::Rejected => "rejected".into(),
            Self::Expired => "expired".into(),
            Self::Count(n) => n.to_string().into(),
            Self::Gone => "gone".into(),
        }
    }
}
