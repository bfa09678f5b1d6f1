//! Schedules of five fields, as in crontab(5): minute, hour, day of the month, month, day of the week.
//!
//! Each field: `*`, a number, a range `a-b`, a step `*/n` or `a-b/n`, or a list of these; months and days also by their first
//! three letters; Sunday is 0 or 7. Instead of fields: `@hourly`, `@daily` (`@midnight`), `@weekly`, `@monthly`, `@yearly`
//! (`@annually`). As in Vixie's cron, a day fits where both day fields fit, or either one where neither begins with `*`.
//!
//! Times here are of the clock on the wall; what they mean in a time zone is decided by whoever knows the zone.

use std::fmt;

/// Longest text that is read, in bytes.
pub const SCHEDULE_BYTES_MAX: usize = 256;
/// Years that are looked ahead: 29 February is at most 8 away, one on a certain day of the week at most 40.
const YEARS_MAX: i16 = 41;
/// The last year of a wall time here.
const YEAR_LAST: i16 = 9990;

/// A time as the clock on the wall shows it, to the minute. The order is that of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    /// The year, 1970 to 9999.
    pub year: i16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

/// A schedule that comes round at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// One bit for each minute that fits; so are all below.
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    weekdays: u8,
    /// The field begins with `*`.
    any_day: bool,
    any_weekday: bool,
    any_hour: bool,
}

/// Why a text is no schedule; it may be shown and does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadSchedule {
    /// Not five fields, and none of the words.
    Fields,
    /// A field that is not understood or out of its bounds.
    Field(&'static str, u8, u8),
    /// There is no such day, as 30 February.
    Never,
}

impl fmt::Display for BadSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields => f.write_str("expected five fields (minute hour day month weekday), for example `30 7 * * mon-fri`, or @hourly, @daily, @weekly, @monthly, @yearly"),
            Self::Field(name, low, high) => write!(f, "the {name} field: expected *, numbers from {low} to {high}, ranges a-b, steps */n or a-b/n, joined by commas"),
            Self::Never => f.write_str("there is no such day in any year"),
        }
    }
}

impl std::error::Error for BadSchedule {}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule. Total: any text gives one that comes round, or a reason.
    pub fn parse(text: &str) -> Result<Self, BadSchedule> {
        if text.len() > SCHEDULE_BYTES_MAX {
            return Err(BadSchedule::Fields);
        }
        let text = text.trim().to_ascii_lowercase();
        let text = match text.as_str() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            fields => fields,
        };
        let mut fields = text.split_ascii_whitespace();
        let mut next = || fields.next().ok_or(BadSchedule::Fields);
        let (minute, hour, day, month, weekday) = (next()?, next()?, next()?, next()?, next()?);
        if fields.next().is_some() {
            return Err(BadSchedule::Fields);
        }
        let weekdays = field("weekday", weekday, 0, 7, &WEEKDAYS, 0)?;
        let schedule = Self {
            minutes: field("minute", minute, 0, 59, &[], 0)?,
            hours: low(field("hour", hour, 0, 23, &[], 0)?),
            days: low(field("day", day, 1, 31, &[], 0)?),
            months: low(field("month", month, 1, 12, &MONTHS, 1)?) as u16,
            // Sunday has two numbers.
            weekdays: (low(weekdays | weekdays >> 7) & 0x7f) as u8,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
            any_hour: hour.starts_with('*'),
        };
        let start = WallTime { year: 2000, month: 1, day: 1, hour: 0, minute: 0 };
        schedule.at_or_after(start).map(|_| schedule).ok_or(BadSchedule::Never)
    }

    /// The hour is not said: it goes by intervals, also while clocks are changed.
    pub fn any_hour(&self) -> bool {
        self.any_hour
    }

    /// This minute fits.
    pub fn fits(&self, at: WallTime) -> bool {
        self.fits_day(at.year, at.month, at.day) && self.hours & bit(at.hour) != 0 && self.minutes & (1u64 << at.minute.min(63)) != 0
    }

    /// The first minute that fits, at this one or behind it; none beyond the year 9990.
    pub fn at_or_after(&self, from: WallTime) -> Option<WallTime> {
        let mut day = (from.year, from.month, from.day);
        let mut earliest = (from.hour, from.minute);
        while day.0 <= from.year.saturating_add(YEARS_MAX).min(YEAR_LAST) {
            if self.months & (1u16 << day.1.min(15)) == 0 {
                day = next_month(day);
                earliest = (0, 0);
                continue;
            }
            let fits = self.fits_day(day.0, day.1, day.2);
            if let Some((hour, minute)) = fits.then(|| self.time_from(earliest)).flatten() {
                return Some(WallTime { year: day.0, month: day.1, day: day.2, hour, minute });
            }
            earliest = (0, 0);
            day = if day.2 >= month_days(day.0, day.1) { next_month(day) } else { (day.0, day.1, day.2 + 1) };
        }
        None
    }

    fn time_from(&self, (hour, minute): (u8, u8)) -> Option<(u8, u8)> {
        (hour..24).filter(|h| self.hours & bit(*h) != 0).find_map(|h| {
            let first = if h == hour { minute } else { 0 };
            (first..60).find(|m| self.minutes & (1u64 << m) != 0).map(|m| (h, m))
        })
    }

    fn fits_day(&self, year: i16, month: u8, day: u8) -> bool {
        let by_day = self.days & bit(day) != 0;
        let by_weekday = self.weekdays & (1u8 << weekday(year, month, day)) != 0;
        let either = !self.any_day && !self.any_weekday;
        self.months & (1u16 << month.min(15)) != 0 && if either { by_day || by_weekday } else { by_day && by_weekday }
    }
}

impl WallTime {
    /// The minute behind this one.
    pub fn next_minute(self) -> Self {
        let Self { year, month, day, hour, minute } = self;
        if minute < 59 {
            return Self { minute: minute + 1, ..self };
        }
        if hour < 23 {
            return Self { hour: hour + 1, minute: 0, ..self };
        }
        let (year, month, day) = if day >= month_days(year, month) { next_month((year, month, day)) } else { (year, month, day + 1) };
        Self { year, month, day, hour: 0, minute: 0 }
    }
}

/// One field as bits; names count from `first`.
fn field(name: &'static str, text: &str, min: u8, max: u8, names: &[&str], first: u8) -> Result<u64, BadSchedule> {
    let bad = BadSchedule::Field(name, min, max);
    let number = |text: &str| -> Result<u8, BadSchedule> {
        if let Some(at) = names.iter().position(|name| *name == text) {
            return u8::try_from(at).map(|at| at + first).map_err(|_| bad);
        }
        if text.is_empty() || text.len() > 2 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad);
        }
        text.parse().ok().filter(|n| (min..=max).contains(n)).ok_or(bad)
    };
    let mut bits = 0u64;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            None => (part, 1),
            Some((range, step)) => {
                let fits = !step.is_empty() && step.len() <= 2 && step.bytes().all(|b| b.is_ascii_digit());
                (range, step.parse().ok().filter(|n: &u8| fits && *n > 0).ok_or(bad)?)
            }
        };
        let (low, high) = match range.split_once('-') {
            // Sunday is not counted twice.
            _ if range == "*" => (min, if max == 7 { 6 } else { max }),
            Some((low, high)) => (number(low)?, number(high)?),
            // crontab(5): a step follows a range or an asterisk.
            None if step > 1 => return Err(bad),
            None => (number(range)?, number(range)?),
        };
        if low > high {
            return Err(bad);
        }
        for n in (low..=high).step_by(usize::from(step)) {
            bits |= 1u64 << n.min(63);
        }
    }
    Ok(bits)
}

fn low(bits: u64) -> u32 {
    u32::try_from(bits & 0xffff_ffff).unwrap_or(0)
}

fn bit(n: u8) -> u32 {
    1u32 << n.min(31)
}

fn next_month((year, month, _): (i16, u8, u8)) -> (i16, u8, u8) {
    if month >= 12 { (year + 1, 1, 1) } else { (year, month + 1, 1) }
}

fn month_days(year: i16, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Sunday is 0 (Sakamoto's method).
fn weekday(year: i16, month: u8, day: u8) -> u8 {
    const SHIFT: [i32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let shift = SHIFT.get(usize::from(month.saturating_sub(1))).copied().unwrap_or(0);
    let year = i32::from(year) - i32::from(month < 3);
    ((year + year / 4 - year / 100 + year / 400 + shift + i32::from(day)).rem_euclid(7)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i16, month: u8, day: u8, hour: u8, minute: u8) -> WallTime {
        WallTime { year, month, day, hour, minute }
    }

    fn next(text: &str, from: WallTime) -> WallTime {
        Schedule::parse(text).unwrap().at_or_after(from).unwrap()
    }

    #[test]
    fn what_fits_next() {
        // 23 November 2026 is a Monday.
        let now = at(2026, 11, 23, 10, 15);
        for (text, expected) in [
            ("* * * * *", now),
            ("*/10 * * * *", at(2026, 11, 23, 10, 20)),
            ("5-40/7 * * * *", at(2026, 11, 23, 10, 19)),
            ("0 7 * * mon-fri", at(2026, 11, 24, 7, 0)),
            ("0 7 * * SUN", at(2026, 11, 29, 7, 0)),
            ("0 7 * * 7", at(2026, 11, 29, 7, 0)),
            ("0 7 * * 5-7", at(2026, 11, 27, 7, 0)),
            ("15 10 23 11 *", now),
            ("14 10 23 11 *", at(2027, 11, 23, 10, 14)),
            ("0 0 29 2 *", at(2028, 2, 29, 0, 0)),
            ("0 0 31 * *", at(2026, 12, 31, 0, 0)),
            // Either day field fits where both are said.
            ("0 0 13 * fri", at(2026, 11, 27, 0, 0)),
            // Both where one begins with `*`.
            ("0 0 */2 * tue", at(2026, 12, 1, 0, 0)),
            ("0 12 1,15 jan,jul *", at(2027, 1, 1, 12, 0)),
            ("@hourly", at(2026, 11, 23, 11, 0)),
            ("@Daily", at(2026, 11, 24, 0, 0)),
            ("@weekly", at(2026, 11, 29, 0, 0)),
            ("@monthly", at(2026, 12, 1, 0, 0)),
            ("@yearly", at(2027, 1, 1, 0, 0)),
        ] {
            assert_eq!(next(text, now), expected, "{text}");
        }
        // 1900, 2100 … have no 29 February.
        assert_eq!(next("0 0 29 2 *", at(2096, 3, 1, 0, 0)), at(2104, 2, 29, 0, 0));
    }

    #[test]
    fn what_is_no_schedule() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "@reboot",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5/2 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "1,,2 * * * *",
            "-1 * * * *",
            "+1 * * * *",
            "* * * * fri-mon",
            "1-2-3 * * * *",
            "*/999 * * * *",
            "٣ * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        for text in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
            assert_eq!(Schedule::parse(text), Err(BadSchedule::Never), "{text}");
        }
        // The weekday saves it.
        assert!(Schedule::parse("0 0 30 2 mon").is_ok());
        assert!(Schedule::parse(&format!("{} * * * *", "1,".repeat(500))).is_err());
    }
}
