//! What a run stands before, beside the conversation: what the agent was taught, and tools of other servers. Read once where a stretch of a run begins, so that it is the same from call to call (models cache it).

use std::time::Duration;

use serde_json::Value;

use crate::base::log;
use crate::llm::request::ToolSpec;
use crate::orchestrator::run::{Run, blocking};
use crate::orchestrator::tools;
use crate::rooms::mcp::{Offered, Whose};

/// How long a run waits for servers to say which tools they have; those that are slower are there for a later run.
const OFFERED_WITHIN: Duration = Duration::from_secs(5);
/// The list of skills, in bytes.
const SKILLS_BYTES_MAX: usize = 2 * 1024;
/// One skill's description in it, in characters.
const SKILL_CHARS_MAX: usize = 200;
/// Tools of other servers.
const FOREIGN_MAX: usize = 64;
/// What one of them says of itself, in characters.
const FOREIGN_CHARS_MAX: usize = 1024;
/// The schemas of all of them, in bytes; a tool that does not fit is not offered.
const FOREIGN_BYTES_MAX: usize = 32 * 1024;

/// What a run stands before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backdrop {
    /// Skills that can be read, one a line; empty where there are none.
    pub(crate) skills: String,
    /// Tools of other servers.
    pub(crate) foreign: Vec<Offered>,
}

impl Backdrop {
    /// The foreign tool of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Offered> {
        self.foreign.iter().find(|tool| tool.name == name)
    }

    /// The foreign tools as they are offered; risky ones only within a task.
    pub(crate) fn offered(&self, within_task: bool) -> impl Iterator<Item = ToolSpec> + '_ {
        self.foreign.iter().filter(move |tool| within_task || !tool.risky).map(|tool| ToolSpec {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
        })
    }
}

impl Run<'_> {
    /// Reads it. What cannot be read is left out: the answer does not depend on it.
    pub(crate) async fn read_backdrop(&mut self) {
        let room = self.parts.skills.clone();
        let skills = blocking(move || Ok(room.eligible())).await.unwrap_or_default();
        self.backdrop.skills = listed(&skills);
        let whose = Whose { owner: self.job.owner, files: self.reach.workspace.path() };
        self.backdrop.foreign = fitting(self.parts.mcp.offered(whose, OFFERED_WITHIN, self.cancel()).await);
    }
}

/// Skills as lines, as many as there is room for.
fn listed(skills: &[(String, String)]) -> String {
    let mut lines = String::new();
    for (name, description) in skills {
        let words: String = description.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SKILL_CHARS_MAX).collect();
        let line = format!("- {name}: {words}\n");
        if lines.len() + line.len() <= SKILLS_BYTES_MAX {
            lines.push_str(&line);
        }
    }
    lines
}

/// As many tools as there is room for, each described in few words. None takes the name of one of ours.
fn fitting(offered: Vec<Offered>) -> Vec<Offered> {
    let mut room = FOREIGN_BYTES_MAX;
    let mut kept: Vec<Offered> = Vec::new();
    for mut tool in offered {
        let takes = tool.parameters.to_string().len();
        if kept.len() == FOREIGN_MAX || takes > room || tools::known(&tool.name) {
            log::info("run", format_args!("a tool of another server is not offered: there is no room for it"));
            continue;
        }
        room -= takes;
        tool.description = tool.description.chars().take(FOREIGN_CHARS_MAX).collect();
        if !tool.parameters.is_object() {
            tool.parameters = Value::Object(Default::default());
        }
        kept.push(tool);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn skills_and_foreign_tools_keep_to_their_room() {
        let skills: Vec<_> = (0..100).map(|n| (format!("skill-{n}"), "long words ".repeat(100))).collect();
        let lines = listed(&skills);
        assert!(lines.len() <= SKILLS_BYTES_MAX && lines.starts_with("- skill-0: long words") && lines.lines().count() > 5);
        let tool = |name: &str, bytes: usize, risky| Offered {
            name: name.into(),
            theirs: name.into(),
            description: "d".repeat(9000),
            parameters: json!({"x": "y".repeat(bytes)}),
            risky,
        };
        let kept = fitting(vec![
            tool("s__a", 9, false),
            tool("s__huge", FOREIGN_BYTES_MAX, false),
            tool("write_file", 9, false),
            tool("s__b", 9, true),
        ]);
        assert_eq!(kept.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["s__a", "s__b"]);
        assert_eq!(kept[0].description.len(), FOREIGN_CHARS_MAX);
        let backdrop = Backdrop { foreign: kept, ..Backdrop::default() };
        assert_eq!(backdrop.offered(false).map(|t| t.name).collect::<Vec<_>>(), ["s__a"]);
        assert_eq!(backdrop.offered(true).count(), 2);
    }
}
