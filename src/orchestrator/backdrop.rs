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
const SKILLS_BYTES_MAX: usize = 8 * 1024;
/// One skill's description in it, in characters: the first of these that lets all of them be named.
const SKILL_CHARS: [usize; 4] = [SKILL_CHARS_MAX, 100, 40, 0];
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
    /// Skills that can be read: names, and what their descriptions say first.
    pub(crate) skills: Vec<(String, String)>,
    /// Tools of other servers.
    pub(crate) foreign: Vec<Offered>,
}

impl Backdrop {
    /// The skills as lines, in at most so many bytes. Where there are many, less is said of each; where even their names are too many, the
    /// last line says so. Empty where there are none, or no room.
    pub(crate) fn listed(&self, max: usize) -> String {
        let max = max.min(SKILLS_BYTES_MAX);
        let lines = |chars: usize| {
            self.skills.iter().map(move |(name, description)| {
                let words: String = description.chars().take(chars).collect();
                if words.is_empty() { format!("- {name}\n") } else { format!("- {name}: {words}\n") }
            })
        };
        for chars in SKILL_CHARS {
            let all: String = lines(chars).collect();
            if all.len() <= max {
                return all;
            }
        }
        let more = |left: usize| format!("and {left} more, see list_skills\n");
        let mut text = String::new();
        for (at, line) in lines(0).enumerate() {
            let rest = more(self.skills.len() - at);
            if text.len() + line.len() + rest.len() > max {
                return if text.is_empty() { text } else { text + &rest };
            }
            text.push_str(&line);
        }
        text
    }

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
        let short = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SKILL_CHARS_MAX).collect();
        let all = blocking(move || Ok(room.eligible())).await.unwrap_or_default();
        self.backdrop.skills = all.into_iter().map(|(name, description)| (name, short(&description))).collect();
        let whose = Whose { owner: self.job.owner, files: self.reach.workspace.path() };
        self.backdrop.foreign = fitting(self.parts.mcp.offered(whose, OFFERED_WITHIN, &self.cancel).await);
    }
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
        let listed = |count: usize, max: usize| {
            let skills = (0..count).map(|n| (format!("skill-{n}"), "long words ".repeat(100))).collect();
            Backdrop { skills, ..Backdrop::default() }.listed(max)
        };
        for (count, max, named, words) in [
            (0, 9999, 0, false),
            (20, 9999, 20, true),
            (49, 9999, 49, true),
            (100, 9999, 100, true),
            (500, 9999, 500, false),
            (9999, 9999, 689, false),
            (100, 100, 7, false),
            (100, 20, 0, false),
        ] {
            let lines = listed(count, max);
            assert!(lines.len() <= max.min(SKILLS_BYTES_MAX));
            assert_eq!(lines.matches("- skill-").count(), named, "{count} {max}");
            assert_eq!(lines.starts_with("- skill-0: long words"), words, "{count}");
            let rest = format!("and {} more, see list_skills\n", count - named);
            assert_eq!(lines.ends_with(&rest), named > 0 && named < count, "{count}: {lines}");
        }
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
