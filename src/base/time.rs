//! Wall time and monotonic time as arguments, so that a test owns them.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Wall time in milliseconds since 1970-01-01T00:00:00Z, written as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

#[cfg(test)]
impl schemars::JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

/// 9999-12-31T23:59:59.999Z; RFC 3339 has no later year.
const MILLIS_MAX: u64 = 253_402_300_799_999;
const DAY_MILLIS: u64 = 86_400_000;

impl Timestamp {
    /// From milliseconds since the epoch, cut to the year 9999.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(MILLIS_MAX))
    }
    /// Milliseconds since the epoch.
    pub fn millis(self) -> u64 {
        self.0
    }
    /// This time moved into the future.
    pub fn plus(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
    /// The next midnight in UTC.
    pub fn next_day(self) -> Self {
        Self::from_millis((self.0 / DAY_MILLIS + 1) * DAY_MILLIS)
    }
    /// The first midnight of the next month in UTC.
    pub fn next_month(self) -> Self {
        let (y, m, _) = civil((self.0 / DAY_MILLIS) as i64);
        let (y, m) = if m == 12 { (y + 1, 1) } else { (y, m + 1) };
        Self::from_millis(u64::try_from(days(y, m, 1)).unwrap_or(0).saturating_mul(DAY_MILLIS))
    }
    /// Reads RFC 3339 with any offset and any number of fraction digits; years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: every record and every row of a list has two of these, and `write!` with padding showed in profiles.
        let (days, in_day) = (self.0 / DAY_MILLIS, self.0 % DAY_MILLIS);
        let (y, m, d) = civil(days as i64);
        let (secs, ms) = (in_day / 1000, in_day % 1000);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0..4, y.unsigned_abs()),
            (5..7, m.unsigned_abs()),
            (8..10, d.unsigned_abs()),
            (11..13, secs / 3600),
            (14..16, secs / 60 % 60),
            (17..19, secs % 60),
            (20..23, ms),
        ];
        for (at, mut value) in parts {
            for digit in text.get_mut(at).into_iter().flatten().rev() {
                *digit = b'0' + (value % 10) as u8;
                value /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected a time as in RFC 3339"))
    }
}

/// Days since 1970-01-01 to year, month, day (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(m <= 2), m, doy - (153 * mp + 2) / 5 + 1)
}

/// The inverse of [`civil`].
fn days(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let num = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        part.iter().all(u8::is_ascii_digit).then(|| part.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|b| any.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (y, mo, d, h, mi, s) = (num(0, 4)?, num(5, 7)?, num(8, 10)?, num(11, 13)?, num(14, 16)?, num(17, 19)?);
    // RFC 3339 §5.7: second 60 is a leap second; it counts as the next minute here.
    if !(1970..=9999).contains(&y) || !(1..=12).contains(&mo) || h > 23 || mi > 59 || s > 60 {
        return None;
    }
    if d < 1 || civil(days(y, mo, d)) != (y, mo, d) {
        return None;
    }
    let mut at = 19;
    let mut ms = 0;
    if is(at, b".") {
        at += 1;
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let digits = num(start, at.min(start + 3))?;
        ms = match at - start {
            0 => return None,
            1 => digits * 100,
            2 => digits * 10,
            _ => digits,
        };
    }
    let offset = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b":") => {
            let (oh, om) = (num(at + 1, at + 3)?, num(at + 4, at + 6)?);
            if oh > 23 || om > 59 {
                return None;
            }
            (oh * 60 + om) * if *sign == b'+' { 60 } else { -60 }
        }
        _ => return None,
    };
    let secs = days(y, mo, d) * 86_400 + h * 3600 + mi * 60 + s - offset;
    u64::try_from(secs * 1000 + ms).ok().map(Timestamp::from_millis)
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Wall time. Never runs behind a floor that the owner of the clock has set (a board without a battery starts in 1970).
    fn now(&self) -> Timestamp;
    /// Time since some fixed point, never backwards: for durations. It stands still while the machine sleeps.
    fn monotonic(&self) -> Duration;
    /// The same, and it goes on while the machine sleeps: for what lapses.
    fn boottime(&self) -> Duration {
        self.monotonic()
    }
    /// The wall clock was behind the floor when last read: ages are not to be trusted.
    fn corrected(&self) -> bool {
        false
    }
    /// Wall time will not be reported earlier than this from now on.
    fn raise_floor(&self, _to: Timestamp) {}
}

/// The system's clocks with a floor.
pub struct SystemClock {
    start: Instant,
    /// Milliseconds below which wall time is not believed. A mutex, not an atomic: 32-bit boards have no 64-bit atomics.
    floor: std::sync::Mutex<u64>,
    corrected: std::sync::atomic::AtomicBool,
}

impl SystemClock {
    /// A clock whose floor is zero.
    pub fn new() -> Self {
        Self { start: Instant::now(), floor: std::sync::Mutex::new(0), corrected: false.into() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(MILLIS_MAX);
        let floor = *self.floor.lock().unwrap_or_else(|e| e.into_inner());
        self.corrected.store(wall < floor, std::sync::atomic::Ordering::Relaxed);
        Timestamp::from_millis(wall.max(floor))
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    fn boottime(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
    }
    fn corrected(&self) -> bool {
        self.corrected.load(std::sync::atomic::Ordering::Relaxed)
    }
    fn raise_floor(&self, to: Timestamp) {
        let mut floor = self.floor.lock().unwrap_or_else(|e| e.into_inner());
        *floor = (*floor).max(to.millis());
    }
}

/// A clock that stands still until a test moves it.
#[derive(Default)]
pub struct ManualClock(std::sync::Mutex<Manual>);

#[derive(Default)]
struct Manual {
    wall: Timestamp,
    monotonic: Duration,
    slept: Duration,
}

impl ManualClock {
    /// A clock at this time.
    pub fn at(time: Timestamp) -> Self {
        Self(std::sync::Mutex::new(Manual { wall: time, monotonic: Duration::from_millis(time.millis()), slept: Duration::ZERO }))
    }
    /// Moves wall and monotonic time forward together.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times();
        times.wall = times.wall.plus(by);
        times.monotonic += by;
    }
    /// The machine is suspended so long: monotonic time stands still.
    pub fn suspend(&self, by: Duration) {
        let mut times = self.times();
        times.wall = times.wall.plus(by);
        times.slept += by;
    }
    /// Sets wall time alone, ahead or back, as a person or the network does.
    pub fn set_wall(&self, to: Timestamp) {
        self.times().wall = to;
    }
    fn times(&self) -> std::sync::MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.times().wall
    }
    fn monotonic(&self) -> Duration {
        self.times().monotonic
    }
    fn boottime(&self) -> Duration {
        let times = self.times();
        times.monotonic + times.slept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_and_read() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_416_235_123, "2026-11-23T06:43:55.123Z"),
            (MILLIS_MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp::from_millis(millis)), "{text}");
        }
        assert_eq!(Timestamp::parse("2026-11-23T08:43:55.123456+02:00"), Timestamp::parse("2026-11-23T06:43:55.123Z"));
    }

    #[test]
    fn days_and_months_end_in_utc() {
        for (now, day, month) in [
            ("2026-11-23T06:43:55.123Z", "2026-11-24T00:00:00.000Z", "2026-12-01T00:00:00.000Z"),
            ("2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"),
            ("2028-02-28T00:00:00Z", "2028-02-29T00:00:00.000Z", "2028-03-01T00:00:00.000Z"),
            ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00.000Z", "2027-02-01T00:00:00.000Z"),
            ("9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            let now = Timestamp::parse(now).unwrap();
            assert_eq!((now.next_day().to_string(), now.next_month().to_string()), (day.to_owned(), month.to_owned()), "{now}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "2026-02-30T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "١٩٧٠-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }
}
