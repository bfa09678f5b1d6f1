//! The skills that are in the binary: name and SKILL.md. They speak only of tools that the agent has.

use std::sync::LazyLock;

use super::manifest::{self, Manifest};

/// Every one, by name.
pub(super) const BUNDLED: &[(&str, &str)] = &[
    ("incident-report", include_str!("bundled/incident-report.md")),
    ("workspace-notes", include_str!("bundled/workspace-notes.md")),
    ("write-skill", include_str!("bundled/write-skill.md")),
];

/// What they say of themselves, in the same order; read once, since every message asks for it.
pub(super) static MANIFESTS: LazyLock<Vec<Manifest>> =
    LazyLock::new(|| BUNDLED.iter().map(|(_, text)| manifest::read(text, false)).collect());
