//! What a file of a home is, told by its path in a backup; and the one order in which a backup has them (see `super`).

use std::cmp::Ordering;

use crate::base::ids::SessionId;
use crate::store::audit::segment_number;
use crate::store::files::split;
use crate::sys::root;

/// Beneath this path lies the home.
pub(super) const HOME: &str = "home";
/// Beneath this one the workspace, where it lies outside of the home.
pub(super) const OUTSIDE: &str = "workspace";

/// Where the paths of a backup lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The workspace: `home`, something beneath it, or `workspace`.
    pub(super) workspace: String,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<'a> {
    /// It may be behind the logs, never ahead of them: approvals, the list of agents.
    Behind,
    /// A session's file.
    Session(SessionId, Part<'a>),
    /// The tombstone of a session.
    Grave(SessionId),
    /// Everything that no order matters for.
    Other,
    /// Skills, and which of them are on.
    Skill,
    /// One of [`KEPT_TOGETHER`], by its place there.
    Together(usize),
    /// A segment of the audit log.
    Audit(u64),
}

/// What a session's file is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part<'a> {
    Run,
    Projection,
    Log,
    /// Large results, and what was set aside.
    Beside(&'a str),
}

/// Files of the home itself, in their order.
pub(super) const KEPT_TOGETHER: [&str; 7] = ["secret", "audit.key", "clock", "config.toml", TOKEN, KEYS, "budgets.json"];
/// The first key.
pub(super) const TOKEN: &str = "token";
/// All keys.
pub(super) const KEYS: &str = "keys.json";

/// The list of agents, in the workspace.
pub(super) const AGENTS: &str = "agents.jsonl";

/// Files of the home that belong to a process, not to the home.
const LEFT_OUT: [&str; 4] = ["lock", "keys.lock", "address", "reserve"];
/// Directories of the workspace that hold what must not be missing.
const ROOMS: [&str; 12] =
    ["sessions", "audit", "approvals", "skills", "memory", "seeds", "evals", "personas", "spaces", "cron", "files", "files-of"];
/// What is being written, beside what it will replace.
const UNFINISHED: &str = ".new";

impl Layout {
    /// The layout with the workspace at this path of a backup; `None` where it cannot be there.
    pub(super) fn of(workspace: &str) -> Option<Self> {
        let good = workspace == HOME || workspace == OUTSIDE || beneath(workspace, HOME).is_some();
        good.then(|| Self { workspace: workspace.to_owned() })
    }

    /// The workspace lies outside of the home.
    pub fn is_outside(&self) -> bool {
        self.workspace == OUTSIDE
    }

    /// The workspace beneath the home, where it lies there; empty: it is the home.
    pub fn inside(&self) -> Option<&str> {
        if self.workspace == HOME { Some("") } else { beneath(&self.workspace, HOME) }
    }

    /// A path in the workspace.
    pub(super) fn in_workspace(&self, path: &str) -> String {
        format!("{}/{path}", self.workspace)
    }

    /// A directory that a room of the house keeps.
    pub(super) fn is_room(&self, path: &str) -> bool {
        beneath(path, &self.workspace).is_some_and(|name| ROOMS.contains(&name))
    }

    /// What lies there must be a directory: others lie in it.
    pub(super) fn is_dir(&self, path: &str) -> bool {
        path == HOME || path == self.workspace || beneath(&self.workspace, path).is_some() || self.is_room(path)
    }

    /// What lies there must be a file.
    pub(super) fn is_file(&self, path: &str) -> bool {
        match self.place(path) {
            Some(Place::Session(_, Part::Run | Part::Projection | Part::Log)) => true,
            Some(Place::Grave(_) | Place::Together(_) | Place::Audit(_)) => true,
            Some(Place::Behind) => beneath(path, &self.workspace) == Some(AGENTS),
            _ => false,
        }
    }

    /// What lies at a path; `None` where it is left out: locks, sockets' names, caches, what is half written, and whatever is neither
    /// of the home nor of the workspace.
    pub(super) fn place<'a>(&self, path: &'a str) -> Option<Place<'a>> {
        let in_home = beneath(path, HOME);
        if let Some(name) = in_home {
            if let Some(at) = KEPT_TOGETHER.iter().position(|kept| *kept == name) {
                return Some(Place::Together(at));
            }
            if LEFT_OUT.contains(&name) || name.starts_with(".oxios-") {
                return None;
            }
        }
        if let Some(inside) = beneath(path, &self.workspace) {
            return in_workspace(inside);
        }
        let outside = self.is_outside() && path == OUTSIDE;
        match in_home {
            _ if path == HOME || outside => Some(Place::Other),
            Some(name) => of_a_page(name).unwrap_or((!name.ends_with(UNFINISHED)).then_some(Place::Other)),
            None => None,
        }
    }

    /// Which of two paths comes first.
    pub(super) fn compare(&self, a: &str, b: &str) -> Ordering {
        self.place(a).cmp(&self.place(b)).then_with(|| a.split('/').cmp(b.split('/')))
    }
}

fn in_workspace(path: &str) -> Option<Place<'_>> {
    let (top, inside) = path.split_once('/').map_or((path, None), |(top, inside)| (top, Some(inside)));
    match (top, inside) {
        ("approvals", None) | (AGENTS, None) => Some(Place::Behind),
        ("approvals", Some(name)) => (!name.ends_with(UNFINISHED)).then_some(Place::Behind),
        ("sessions", Some(name)) => in_sessions(name),
        ("skills", _) => {
            let choices = matches!(inside, Some(".lock" | ".choices.json.new"));
            (!choices && path.split('/').all(|name| name != UNFINISHED)).then_some(Place::Skill)
        }
        ("audit", Some(name)) => match segment_number(name) {
            Some(n) => Some(Place::Audit(n)),
            None => (!name.ends_with(UNFINISHED)).then_some(Place::Other),
        },
        // Names there are their owners' choice.
        ("files" | "files-of", _) => path.split('/').all(|name| name != root::TEMP).then_some(Place::Other),
        _ => of_a_page(path).unwrap_or((!path.ends_with(UNFINISHED)).then_some(Place::Other)),
    }
}

fn in_sessions(path: &str) -> Option<Place<'_>> {
    let name = path.split('/').next().unwrap_or(path);
    if name == "index.cache" || path.ends_with(UNFINISHED) {
        return None;
    }
    let Some((id, ending)) = split(name).filter(|(id, _)| name.starts_with(&id.to_string())) else { return Some(Place::Other) };
    let is_file = name.len() == path.len();
    Some(match ending {
        "gone" if is_file => Place::Grave(id),
        "run" if is_file => Place::Session(id, Part::Run),
        "json" if is_file => Place::Session(id, Part::Projection),
        "log" if is_file => Place::Session(id, Part::Log),
        other => Place::Session(id, Part::Beside(other)),
    })
}

/// A page of one's own is replaced as a directory; names in it are its maker's choice.
fn of_a_page(path: &str) -> Option<Option<Place<'_>>> {
    let inside = beneath(path, "web")?;
    Some((inside.split('/').next() != Some(UNFINISHED)).then_some(Place::Other))
}

/// What of a path lies beneath another one.
pub(super) fn beneath<'a>(path: &'a str, above: &str) -> Option<&'a str> {
    path.strip_prefix(above)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

    #[test]
    fn what_is_kept_and_in_which_order() {
        let layout = Layout::of("home/workspace").unwrap();
        let other = "77e55044-10b1-426f-9247-bb680e5fe0c8";
        let in_order = [
            "home/workspace/agents.jsonl".to_owned(),
            "home/workspace/approvals".to_owned(),
            format!("home/workspace/approvals/{ID}.json"),
            format!("home/workspace/sessions/{ID}.run"),
            format!("home/workspace/sessions/{ID}.json"),
            format!("home/workspace/sessions/{ID}.log"),
            format!("home/workspace/sessions/{ID}.d"),
            format!("home/workspace/sessions/{ID}.d/ab"),
            format!("home/workspace/sessions/{ID}.json.kept-3"),
            format!("home/workspace/sessions/{ID}.log.bad"),
            format!("home/workspace/sessions/{other}.run"),
            format!("home/workspace/sessions/{other}.log"),
            format!("home/workspace/sessions/{ID}.gone"),
            "home".to_owned(),
            "home/logins.json".to_owned(),
            "home/web/dist/a.new".to_owned(),
            "home/workspace".to_owned(),
            "home/workspace/audit".to_owned(),
            "home/workspace/files/.new".to_owned(),
            "home/workspace/files/x.new".to_owned(),
            "home/workspace/memory/facts/1.json".to_owned(),
            "home/workspace/sessions".to_owned(),
            "home/workspace/sessions/notes".to_owned(),
            "home/workspace/skills".to_owned(),
            "home/workspace/skills/.choices.json".to_owned(),
            "home/workspace/skills/a/b.new".to_owned(),
            "home/secret".to_owned(),
            "home/token".to_owned(),
            "home/keys.json".to_owned(),
            "home/budgets.json".to_owned(),
            "home/workspace/audit/9.log".to_owned(),
            "home/workspace/audit/10.log".to_owned(),
        ];
        for pair in in_order.windows(2) {
            assert_eq!(layout.compare(&pair[0], &pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(layout.compare(&pair[1], &pair[0]), Ordering::Greater, "{pair:?}");
        }
        for left_out in [
            "home/lock",
            "home/keys.lock",
            "home/address",
            "home/reserve",
            "home/keys.json.new",
            "home/.oxios-doctor-3",
            "home/web/.new/index.html",
            "home/workspace/sessions/index.cache",
            &format!("home/workspace/sessions/{ID}.log.new"),
            "home/workspace/skills/.lock",
            "home/workspace/skills/managed/.new/x/SKILL.md",
            "home/workspace/files/a/.oxios-write.tmp",
            "home/workspace/memory/facts/1.json.new",
            "workspace/sessions",
            "manifest/1",
            "elsewhere",
        ] {
            assert_eq!(layout.place(left_out), None, "{left_out}");
        }
    }

    #[test]
    fn a_workspace_lies_where_it_is_said() {
        assert!(Layout::of("elsewhere").is_none() && Layout::of("homes/x").is_none());
        let outside = Layout::of("workspace").unwrap();
        assert_eq!(outside.place("workspace/audit/7.log"), Some(Place::Audit(7)));
        assert_eq!(outside.place("home/workspace/audit/7.log"), Some(Place::Other));
        let same = Layout::of("home").unwrap();
        assert_eq!(same.place("home/audit/7.log"), Some(Place::Audit(7)));
        assert_eq!(same.place("home/keys.json"), Some(Place::Together(5)));
        assert_eq!(same.place("home/lock"), None);
    }
}
