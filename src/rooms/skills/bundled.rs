//! The skills that are in the binary: name and SKILL.md. They speak only of tools that the agent has.

/// Every one, by name.
pub(super) const BUNDLED: &[(&str, &str)] = &[
    ("incident-report", include_str!("bundled/incident-report.md")),
    ("workspace-notes", include_str!("bundled/workspace-notes.md")),
    ("write-skill", include_str!("bundled/write-skill.md")),
];
