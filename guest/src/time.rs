//! Points in time, and how RFC 3339 writes them. Invariant: a text that is taken for a time is one by
//! RFC 3339, section 5.6, and a time is written so that everybody reads it.

use crate::prelude::*;
/// A point in time, in nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    seconds: i64,
    /// Below 1,000,000,000.
    nanoseconds: u32,
}

const SECOND: u32 = 1_000_000_000;
const DAY: i64 = 24 * 60 * 60;

impl Time {
    /// From whole seconds and nanoseconds. What no `i64` holds is the nearest that one does.
    pub fn new(seconds: i64, nanoseconds: u32) -> Self {
        let carry = i64::from(nanoseconds / SECOND);
        Time { seconds: seconds.saturating_add(carry), nanoseconds: nanoseconds % SECOND }
    }

    /// From nanoseconds since 1970.
    pub const fn from_nanos(nanoseconds: i128) -> Self {
        let second = SECOND as i128;
        let seconds = match nanoseconds.div_euclid(second) {
            low if low < i64::MIN as i128 => i64::MIN,
            high if high > i64::MAX as i128 => i64::MAX,
            seconds => seconds as i64,
        };
        Time { seconds, nanoseconds: nanoseconds.rem_euclid(second) as u32 }
    }

    /// In nanoseconds since 1970.
    pub fn nanos(self) -> i128 {
        i128::from(self.seconds) * i128::from(SECOND) + i128::from(self.nanoseconds)
    }

    /// In whole milliseconds; 0 for times before 1970.
    pub fn millis(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        match self.seconds {
            ..0 => 0,
            _ => seconds.saturating_mul(1000).saturating_add(u64::from(self.nanoseconds / 1_000_000)),
        }
    }

    /// This time and so many seconds more.
    pub fn plus_seconds(self, seconds: u32) -> Self {
        Time { seconds: self.seconds.saturating_add(seconds.into()), ..self }
    }

    /// The beginning of its second.
    pub fn whole_seconds(self) -> Self {
        Time { nanoseconds: 0, ..self }
    }
}

/// The days from 1970-01-01 to a date of the Gregorian calendar.
///
/// With years that begin in March a leap day is the last day of its year, and the days before a month are
/// linear in its number; the calendar repeats itself after 400 years, which are 146,097 days. After Howard
/// Hinnant, "chrono-compatible low-level date algorithms".
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// Year, month and day: the reverse of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// A time as RFC 3339 writes it; `None` for any other text. A space may stand for the `T`, as that RFC
/// permits; digits of the second beyond the ninth don't count.
pub fn parse_rfc3339(text: &str) -> Option<Time> {
    /// The two digits at `at`.
    fn two(text: &[u8], at: usize, max: i64) -> Option<i64> {
        let [tens, ones] = *text.get(at..at + 2)?.first_chunk()?;
        let number = i64::from(char::from(tens).to_digit(10)? * 10 + char::from(ones).to_digit(10)?);
        (number <= max).then_some(number)
    }
    let text = text.as_bytes();
    let at = |index: usize, bytes: &[u8]| text.get(index).is_some_and(|byte| bytes.contains(byte));
    let in_form = at(4, b"-") && at(7, b"-") && at(10, b"Tt ") && at(13, b":") && at(16, b":");
    if !in_form {
        return None;
    }
    let year = two(text, 0, 99)? * 100 + two(text, 2, 99)?;
    let (month, day) = (two(text, 5, 12)?, two(text, 8, 31)?);
    let days = days_of(year, month, day);
    // No day 31 in a month of 30, no month 0.
    if month == 0 || date_of(days) != (year, month, day) {
        return None;
    }
    let (hour, minute, second) = (two(text, 11, 23)?, two(text, 14, 59)?, two(text, 17, 60)?);
    let (mut end, mut nanoseconds) = (19, 0);
    if at(end, b".") {
        let digits = text[end + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let kept = text[end + 1..].iter().copied().take(digits).chain(core::iter::repeat(b'0')).take(9);
        nanoseconds = kept.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        end += 1 + digits;
    }
    // The second 60 is the one before with a nanosecond count of its own.
    let (second, nanoseconds) = if second == 60 { (59, nanoseconds + SECOND) } else { (second, nanoseconds) };
    let offset = match &text[end..] {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), offset @ ..] if offset.len() == 5 && offset[2] == b':' => {
            let offset = two(offset, 0, 23)? * 60 + two(offset, 3, 59)?;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    Some(Time::new(days * DAY + (hour * 60 + minute - offset) * 60 + second, nanoseconds))
}

/// A time as the original format writes it: UTC, as many digits of the second as are needed, in threes. The
/// beginning of 1970 for a year that has not four digits.
pub fn to_rfc3339(time: Time) -> String {
    let (mut seconds, mut nanoseconds) = (time.seconds, time.nanoseconds);
    let (mut year, mut month, mut day) = date_of(seconds.div_euclid(DAY));
    if !(0..=9999).contains(&year) {
        (seconds, nanoseconds) = (0, 0);
        (year, month, day) = (1970, 1, 1);
    }
    let second = seconds.rem_euclid(DAY);
    let (mut fraction, mut digits) = (nanoseconds, 9);
    while digits > 0 && fraction % 1000 == 0 {
        (fraction, digits) = (fraction / 1000, digits - 3);
    }
    let mut text = *b"YYYY-MM-DDThh:mm:ss.nnnnnnnnnZ";
    let mut put = |end: usize, digits: usize, mut number: u32| {
        for place in text[end - digits..end].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(4, 4, year as u32);
    put(7, 2, month as u32);
    put(10, 2, day as u32);
    put(13, 2, (second / 3600) as u32);
    put(16, 2, (second / 60 % 60) as u32);
    put(19, 2, (second % 60) as u32);
    let mut end = 19;
    if digits > 0 {
        end += 1 + digits;
        put(end, digits, fraction);
    }
    text[end] = b'Z';
    String::from_utf8(text[..=end].to_vec()).unwrap_or_default()
}
