//! Which moment a schedule means in a time zone.
//!
//! Where clocks are put forward, a time that does not occur that day comes as much later as the clocks were moved (02:30 is
//! 03:30). Where they are put back, a time that occurs twice comes once, the first time. A schedule whose hour begins with `*`
//! goes by intervals instead: it knows no gap and runs through both passes of a repeated hour.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::base::time::Timestamp;
use crate::wire::cron::{Schedule, WallTime};

/// Minutes that are looked at for one run: all of a day (zones have left one out, and may have one twice), and some.
const TRIES_MAX: usize = 2 * 24 * 60;

/// A time zone of the system's database (`/usr/share/zoneinfo`), or UTC, which needs none. Blocks.
pub(super) fn find(name: &str) -> Option<TimeZone> {
    if matches!(name, "UTC" | "Etc/UTC" | "Z") {
        return Some(TimeZone::UTC);
    }
    // SECURITY: the name becomes part of a path in the database.
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'));
    if !plain || name.is_empty() || name.len() > 64 || name.starts_with('/') {
        return None;
    }
    TimeZone::get(name).ok()
}

/// The first moment behind `after` that the schedule means; none in the far future.
pub(super) fn next(schedule: &Schedule, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    if schedule.any_hour() { by_interval(schedule, zone, after) } else { by_wall(schedule, zone, after) }
}

fn by_wall(schedule: &Schedule, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let from = moment(after)?;
    // Behind a gap, times within it are still to come: they are found by the clock as it went before.
    let before = zone.to_offset(from.checked_sub(SignedDuration::from_hours(24)).ok()?);
    let mut wall = wall_of(zone.to_datetime(from).min(before.to_datetime(from)));
    let mut soonest: Option<jiff::Timestamp> = None;
    for _ in 0..TRIES_MAX {
        let Some(next) = schedule.at_or_after(wall) else { break };
        // A gap moves a time forward, never back: what stands behind the soonest one on the wall comes behind it.
        if soonest.is_some_and(|soonest| next >= wall_of(zone.to_datetime(soonest))) {
            break;
        }
        let found = zone.to_ambiguous_timestamp(civil(next)?).compatible().ok()?;
        if timestamp(found)? > after {
            soonest = Some(soonest.map_or(found, |soonest| soonest.min(found)));
        }
        wall = next.next_minute();
    }
    soonest.and_then(timestamp)
}

/// Between two changes of the clocks, wall time and time go together.
fn by_interval(schedule: &Schedule, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut from = moment(after)?;
    let mut first = wall_of(zone.to_datetime(from)).next_minute();
    for _ in 0..1000 {
        let offset = zone.to_offset(from);
        let found = offset.to_timestamp(civil(schedule.at_or_after(first)?)?).ok()?;
        match zone.following(from).next().map(|change| change.timestamp()) {
            Some(change) if found >= change => {
                from = change;
                first = wall_of(zone.to_datetime(change));
            }
            _ => return timestamp(found),
        }
    }
    None
}

fn moment(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.millis()).ok()?).ok()
}

fn timestamp(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

fn civil(at: WallTime) -> Option<DateTime> {
    let part = |n: u8| i8::try_from(n).ok();
    DateTime::new(at.year, part(at.month)?, part(at.day)?, part(at.hour)?, part(at.minute)?, 0, 0).ok()
}

fn wall_of(at: DateTime) -> WallTime {
    let part = |n: i8| n.unsigned_abs();
    WallTime { year: at.year(), month: part(at.month()), day: part(at.day()), hour: part(at.hour()), minute: part(at.minute()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Zones as their rules, which need no database: what is tested here is tested everywhere.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
    /// As if Samoa had changed the side of the date line every year.
    const APIA: &str = "<-10>10<+14>-14,J363/24,J100";

    fn following(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), find(zone).unwrap_or_else(|| TimeZone::posix(zone).unwrap()));
        let mut at = Timestamp::parse(after).unwrap();
        let step = |_| {
            at = next(&schedule, &zone, at).unwrap();
            at.to_string().replace(":00.000Z", "")
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn utc_needs_no_database() {
        assert_eq!(following("0 7 * * *", "UTC", "2026-11-23T07:00:00Z", 2), ["2026-11-24T07:00", "2026-11-25T07:00"]);
        assert_eq!(following("*/30 * * * *", "UTC", "2026-11-23T07:00:59.9Z", 2), ["2026-11-23T07:30", "2026-11-23T08:00"]);
    }

    #[test]
    fn names_that_are_no_zone() {
        for bad in ["", "Nowhere/Town", "../../etc/passwd", "/etc/localtime", "Europe/\u{fc}", &"x".repeat(100)] {
            assert!(find(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn clocks_that_are_changed() {
        // 29 March 2026, 02:00 becomes 03:00 (01:00 UTC).
        assert_eq!(
            following("30 2 * * *", BERLIN, "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"]
        );
        assert_eq!(following("0 * * * *", BERLIN, "2026-03-28T23:30:00Z", 3), ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"]);
        // 25 October 2026, 03:00 becomes 02:00 (01:00 UTC).
        assert_eq!(following("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 2), ["2026-10-25T00:30", "2026-10-26T01:30"]);
        assert_eq!(
            following("30 * * * *", BERLIN, "2026-10-24T23:00:00Z", 4),
            ["2026-10-24T23:30", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"]
        );
        assert_eq!(following("30 2 * * *", BERLIN, "2026-10-25T00:45:00Z", 1), ["2026-10-26T01:30"]);
    }

    #[test]
    fn every_time_in_a_gap_comes_once() {
        assert_eq!(
            following("0,30 2 * * *", BERLIN, "2026-03-28T12:00:00Z", 3),
            ["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:00"]
        );
        assert_eq!(
            following("15,45 2,3 * * *", BERLIN, "2026-03-28T12:00:00Z", 3),
            ["2026-03-29T01:15", "2026-03-29T01:45", "2026-03-30T00:15"]
        );
        // 4 October 2026, 02:00 becomes 02:30 (15:30 UTC): what was moved stands behind what was not.
        assert_eq!(
            following("15,30 2 * * *", LORD_HOWE, "2026-10-03T12:00:00Z", 3),
            ["2026-10-03T15:30", "2026-10-03T15:45", "2026-10-04T15:15"]
        );
        // 30 December 2011 never was there.
        assert_eq!(
            following("0 7,8 * * *", APIA, "2011-12-29T18:30:00Z", 4),
            ["2011-12-30T17:00", "2011-12-30T18:00", "2011-12-31T17:00", "2011-12-31T18:00"]
        );
        let all_day = following("* 0-23 * * *", APIA, "2011-12-30T09:58:00Z", 1500);
        assert_eq!((all_day[0].as_str(), all_day[1499].as_str()), ("2011-12-30T09:59", "2011-12-31T10:58"));
    }
}
