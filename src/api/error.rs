//! The one translator: errors of the rooms become HTTP here and nowhere else. A 500 never shows an internal text.

use crate::base::limits::{MEMORY_BYTES_MAX, PERSONA_PROMPT_BYTES_MAX, SPACE_CONTEXT_BYTES_MAX};
use crate::cron::CronError;
use crate::gateway::{CancelError, DecideError, GatewayError};
use crate::http::error::{ErrorStatus, HttpError};
use crate::rooms::approvals::ApprovalError;
use crate::rooms::memory::MemoryError;
use crate::rooms::personas::PersonaError;
use crate::rooms::seeds::SeedError;
use crate::rooms::skills::SkillError;
use crate::rooms::spaces::SpaceError;
use crate::rooms::workspace::WorkspaceError;
use crate::store::StoreError;
use crate::store::audit::AuditError;
use crate::store::keys::Refused;
use crate::sys::disk::refusal;
use crate::wire::json::BadJson;

/// When a refused message is worth another try, in seconds.
const DRAINING_RETRY_SECS: u64 = 5;
const DISK_RETRY_SECS: u64 = 30;
const LANE_RETRY_SECS: u64 = 1;

impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found("not found"),
            StoreError::Conflict => Self::conflict(error.to_string()),
            StoreError::Elsewhere => Self::conflict(error.to_string()).code("space"),
            StoreError::Ended => Self::conflict("the message is over"),
            StoreError::DiskFull(why) => disk_full(why),
            StoreError::Newer { .. }
            | StoreError::Held { .. }
            | StoreError::Exposed(_)
            | StoreError::Damaged(_)
            | StoreError::TooLarge(_)
            | StoreError::Io { .. } => Self::internal(error.to_string()).code("store"),
        }
    }
}

impl From<AuditError> for HttpError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::DiskFull => {
                disk_full("the disk takes nothing, the audit log neither, so nothing was done; /health/ready says why".to_owned())
            }
            AuditError::Unwritable => Self::new(
                ErrorStatus::Unavailable,
                "audit",
                "the audit log cannot be written, so nothing was done; the server's log says why",
            )
            .retry_after(DISK_RETRY_SECS),
        }
    }
}

impl From<GatewayError> for HttpError {
    fn from(error: GatewayError) -> Self {
        let public = error.to_string();
        match error {
            GatewayError::LaneFull => Self::new(ErrorStatus::TooManyRequests, "lane_full", public).retry_after(LANE_RETRY_SECS),
            GatewayError::WaitingRoomFull { retry_after } => {
                Self::new(ErrorStatus::Unavailable, "waiting_room_full", public).retry_after(retry_after.as_secs())
            }
            GatewayError::Draining => Self::new(ErrorStatus::Unavailable, "draining", public).retry_after(DRAINING_RETRY_SECS),
            GatewayError::Conflict | GatewayError::Archived => Self::conflict(public),
            GatewayError::Elsewhere => Self::conflict(public).code("space"),
            GatewayError::NotFound => Self::not_found(public),
            GatewayError::Budget(refused) => refused.into(),
            GatewayError::DiskFull(why) => disk_full(why),
            GatewayError::Store(error) => error.into(),
        }
    }
}

impl From<Refused> for HttpError {
    fn from(error: Refused) -> Self {
        let (code, public, retry) = (error.code(), error.to_string(), error.retry_secs());
        match error {
            Refused::Unwritten(StoreError::DiskFull(_)) => disk_full(public),
            Refused::Short { .. } => {
                let error = Self::new(ErrorStatus::TooManyRequests, code, public);
                // A total never begins anew: coming back is of no use.
                if let Some(secs) = retry { error.retry_after(secs) } else { error }
            }
            Refused::Unwritten(e) => Self::new(ErrorStatus::Unavailable, code, public).private(e.to_string()).retry_after(DISK_RETRY_SECS),
        }
    }
}

impl From<CancelError> for HttpError {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotFound => Self::not_found("no such message"),
            CancelError::Over => Self::conflict("the message is over").code("over"),
        }
    }
}

impl From<DecideError> for HttpError {
    fn from(error: DecideError) -> Self {
        match error {
            DecideError::NotFound => Self::not_found("no such approval"),
            DecideError::Decided(_) => Self::conflict("the approval was decided before").code("decided"),
            DecideError::Store(error) => error.into(),
            DecideError::Room(error) => error.into(),
        }
    }
}

impl From<ApprovalError> for HttpError {
    fn from(error: ApprovalError) -> Self {
        match error {
            ApprovalError::NotFound => Self::not_found("no such approval"),
            ApprovalError::TooMany => Self::new(ErrorStatus::TooManyRequests, "approvals_full", error.to_string()),
            ApprovalError::Io(ref e) => room(e, error.to_string(), "approvals"),
        }
    }
}

impl From<MemoryError> for HttpError {
    fn from(error: MemoryError) -> Self {
        let public = error.to_string();
        match error {
            MemoryError::NotFound => Self::not_found(public),
            MemoryError::Unfit(_) => Self::bad_request(public),
            MemoryError::TooLarge { size } => too_large("content", size, MEMORY_BYTES_MAX),
            MemoryError::Full => Self::conflict(public).code("memory_full"),
            MemoryError::Io(e) => room(&e, public, "memory"),
        }
    }
}

impl From<PersonaError> for HttpError {
    fn from(error: PersonaError) -> Self {
        let public = error.to_string();
        match error {
            PersonaError::NotFound => Self::not_found(public),
            PersonaError::Unfit(_) => Self::bad_request(public),
            PersonaError::TooLarge { size } => too_large("prompt", size, PERSONA_PROMPT_BYTES_MAX),
            PersonaError::Full => Self::conflict(public).code("personas_full"),
            PersonaError::Io(e) => room(&e, public, "personas"),
        }
    }
}

impl From<SkillError> for HttpError {
    fn from(error: SkillError) -> Self {
        let public = error.to_string();
        match error {
            SkillError::NotFound => Self::not_found(public),
            SkillError::BadName | SkillError::BadDescription | SkillError::Taken | SkillError::Refused(_) => Self::bad_request(public),
            SkillError::NotReady | SkillError::Unfit => Self::conflict(public),
            SkillError::Full(_) => Self::conflict(public).code("skills_full"),
            SkillError::Bundled => Self::new(ErrorStatus::Forbidden, "bundled", public),
            SkillError::TooLarge => Self::new(ErrorStatus::PayloadTooLarge, "payload_too_large", public),
            SkillError::Io(e) => room(&e, public, "skills"),
        }
    }
}

impl From<SpaceError> for HttpError {
    fn from(error: SpaceError) -> Self {
        let public = error.to_string();
        match error {
            SpaceError::NotFound => Self::not_found(public),
            SpaceError::Unfit(_) => Self::bad_request(public),
            SpaceError::TooLarge { size } => too_large("context", size, SPACE_CONTEXT_BYTES_MAX),
            SpaceError::Conflict(_) => Self::conflict(public),
            SpaceError::Full => Self::conflict(public).code("spaces_full"),
            SpaceError::Io(e) => room(&e, public, "spaces"),
        }
    }
}

impl From<CronError> for HttpError {
    fn from(error: CronError) -> Self {
        let text = error.to_string();
        match error {
            CronError::NotFound => Self::not_found(text),
            CronError::Unfit(_) => Self::bad_request(text),
            // Waiting is of no use: it is no matter of how often, but of how many there are.
            CronError::Full => Self::conflict(text).code("cron_full"),
            CronError::Busy => Self::conflict(text).code("busy"),
            CronError::Space(error) => error.into(),
            CronError::Gateway(error) => error.into(),
            CronError::Io(e) => room(&e, text, "cron"),
        }
    }
}

impl From<SeedError> for HttpError {
    fn from(error: SeedError) -> Self {
        let public = error.to_string();
        match error {
            SeedError::NotFound => Self::not_found(public),
            SeedError::Io(e) => room(&e, public, "seeds"),
        }
    }
}

impl From<WorkspaceError> for HttpError {
    fn from(error: WorkspaceError) -> Self {
        let public = error.to_string();
        match error {
            WorkspaceError::Escapes => Self::new(ErrorStatus::Forbidden, "path_leaves", public),
            WorkspaceError::BadName => Self::bad_request(public),
            WorkspaceError::NotFound | WorkspaceError::NotADirectory => Self::not_found(public),
            WorkspaceError::Exists | WorkspaceError::NotEmpty | WorkspaceError::NotAFile => Self::conflict(public),
            WorkspaceError::TooLarge { .. } => Self::new(ErrorStatus::PayloadTooLarge, "too_large", public),
            WorkspaceError::Io(e) => room(&e, public, "workspace"),
        }
    }
}

impl From<BadJson> for HttpError {
    fn from(error: BadJson) -> Self {
        match error {
            BadJson::Malformed { line, column } => {
                Self::bad_request(format!("the body is not JSON (line {line}, column {column})")).code("malformed_json")
            }
            BadJson::TooMany { limit } => {
                Self::bad_request(format!("the body has more than {limit} values; send less in one piece")).code("malformed_json")
            }
            BadJson::TooDeep => Self::bad_request("the body is nested deeper than 64 levels").code("malformed_json"),
            BadJson::Shape { place, what } if place.is_empty() => Self::unprocessable(what).code("wrong_shape"),
            BadJson::Shape { place, what } => Self::unprocessable(format!("field `{place}`: {what}")).code("wrong_shape"),
        }
    }
}

/// What a room's disk refused.
fn room(error: &std::io::Error, private: String, code: &'static str) -> HttpError {
    refusal(error).map_or_else(|| HttpError::internal(private).code(code), |why| disk_full(why.to_owned()))
}

fn too_large(field: &str, size: usize, limit: usize) -> HttpError {
    HttpError::new(ErrorStatus::PayloadTooLarge, "payload_too_large", format!("`{field}` has {size} bytes; at most {limit} are taken"))
}

pub(super) fn disk_full(why: String) -> HttpError {
    HttpError::new(ErrorStatus::InsufficientStorage, "disk_full", why).retry_after(DISK_RETRY_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_500_shows_nothing_of_the_inside() {
        let inside = || "/home/secret/path".to_owned();
        for error in [
            HttpError::from(StoreError::Damaged(inside())),
            HttpError::from(StoreError::Io { doing: inside(), source: std::io::Error::other(inside()) }),
            HttpError::from(GatewayError::Store(StoreError::TooLarge(inside()))),
            HttpError::from(ApprovalError::Io(std::io::Error::other(inside()))),
        ] {
            assert_eq!(error.status, ErrorStatus::Internal);
            assert!(!error.public.contains("secret") && error.private.is_some_and(|text| text.contains("secret")));
        }
    }

    #[test]
    fn a_full_disk_is_507_whichever_room_met_it() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        for error in [
            HttpError::from(StoreError::io("writing")(full())),
            HttpError::from(ApprovalError::Io(full())),
            HttpError::from(MemoryError::Io(full())),
            HttpError::from(CronError::Io(full())),
            HttpError::from(crate::api::config::Refused::DiskFull("full")),
        ] {
            assert_eq!(error.status, ErrorStatus::InsufficientStorage, "{}", error.public);
        }
    }

    #[test]
    fn a_shape_names_its_field() {
        let error = HttpError::from(BadJson::Shape { place: "a[0].b".into(), what: "expected a string".into() });
        assert_eq!((error.status, &*error.public), (ErrorStatus::Unprocessable, "field `a[0].b`: expected a string"));
    }
}
