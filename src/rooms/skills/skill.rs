//! A skill as it is shown (API A7).

use serde::Serialize;

/// Where a skill comes from; what comes later here wins over what has the same name before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SkillSource"))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In the binary.
    Bundled,
    /// What an install brought: `<workspace>/skills/.managed/<name>/`.
    Managed,
    /// What the owner wrote: `<workspace>/skills/<name>/`.
    Workspace,
}

/// Whose conventions its front matter follows, told apart in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SkillFormat"))]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `metadata.openclaw`, `clawdbot` or `clawdis`, or `.clawhub/origin.json`.
    Openclaw,
    /// `allowed-tools`, `arguments`, `when_to_use`, `argument-hint`, `effort`, `hooks` or `paths`.
    ClaudeCode,
    /// `requires`, `install`, `primaryEnv` or `skillKey`.
    Oxios,
    /// Name and description.
    AgentSkills,
}

/// Whether it can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SkillStatus"))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Offered to the model.
    Ready,
    /// Something that it requires is missing, or it cannot be read.
    NeedsSetup,
    /// Switched off.
    Disabled,
}

/// What a skill needs, or what of that is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SkillRequirements"))]
pub struct Requirements {
    /// Programs, all of them.
    pub bins: Vec<String>,
    /// Programs, one of them.
    #[serde(rename = "anyBins")]
    pub any_bins: Vec<String>,
    /// Environment variables that are set and not empty.
    pub env: Vec<String>,
    /// Keys of our configuration that are set to something, for example `memory.embedding_model`; `mcp.servers.<name>` is a
    /// tool server that is in use.
    pub config: Vec<String>,
}

/// How what is missing may be installed; shown to a person, never done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SkillInstall"))]
pub struct Install {
    /// For example `brew`.
    pub kind: String,
    /// In words.
    pub label: String,
    /// The programs that it brings.
    pub bins: Vec<String>,
}

/// One configuration path that is required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SkillConfigCheck"))]
pub struct ConfigCheck {
    /// The path.
    pub path: String,
    /// It is a key of ours, and what is in force there is neither nothing nor empty, 0 or false.
    pub satisfied: bool,
}

/// A skill with everything that a listing tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Skill {
    /// Its directory's name, by which it is read.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// As written.
    pub author: Option<String>,
    /// As written.
    pub version: Option<String>,
    /// As written.
    pub emoji: Option<String>,
    /// As written; never opened by us.
    pub homepage: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// It is in the binary.
    pub bundled: bool,
    /// Whether it can be used.
    pub status: Status,
    /// Everything that it requires is there (or it is `always`) and it can be read.
    pub eligible: bool,
    /// Requirements do not matter.
    pub always: bool,
    /// A person may ask for it by name.
    pub user_invocable: bool,
    /// Beneath the workspace; `bundled:<name>` for one in the binary.
    pub file_path: String,
    /// What it requires.
    pub requirements: Requirements,
    /// What of that is missing.
    pub missing: Requirements,
    /// Systems that it is for; empty: all.
    pub os: Vec<String>,
    /// Ways to get what is missing.
    pub install: Vec<Install>,
    /// The required configuration paths, one by one.
    pub config_checks: Vec<ConfigCheck>,
    /// Whose conventions it follows.
    pub format: Format,
    /// What is wrong with its file, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// SHA-256 of what was installed, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}
