//! Times as RFC 3339 writes them, beside another implementation.

use chrono::{DateTime, SecondsFormat, Utc};
use consolidation_guest::time::{Time, parse_rfc3339, to_rfc3339};
use proptest::prelude::*;

fn theirs(text: &str) -> Option<Time> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(Time::new(time.timestamp(), time.timestamp_subsec_nanos()))
}

#[test]
fn every_day_of_the_calendar_is_read_and_written() {
    // 0000-01-01 and 9999-12-31.
    for day in (-719_528..=2_932_896).step_by(7).chain([2_932_896]) {
        let time = DateTime::<Utc>::from_timestamp(day * 86_400, 0).expect("in range");
        let text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let own = Time::new(day * 86_400, 0);
        assert_eq!(to_rfc3339(own), text);
        assert_eq!(parse_rfc3339(&text), Some(own), "{text}");
    }
}

#[test]
fn year_of_five_digits_can_not_be_written() {
    assert_eq!(to_rfc3339(Time::new(253_402_300_799, 0)), "9999-12-31T23:59:59Z");
    assert_eq!(to_rfc3339(Time::new(253_402_300_800, 5)), "1970-01-01T00:00:00Z");
    assert_eq!(to_rfc3339(Time::new(-62_167_219_201, 5)), "1970-01-01T00:00:00Z");
    assert_eq!(to_rfc3339(Time::from_nanos(i128::MIN)), "1970-01-01T00:00:00Z");
}

#[test]
fn time_before_1970_is_counted_from_the_second_before() {
    let time = Time::from_nanos(-1);
    assert_eq!(time, Time::new(-1, 999_999_999));
    assert_eq!((time.nanos(), time.millis()), (-1, 0));
    assert_eq!(Time::new(5, 2_500_000_000), Time::new(7, 500_000_000));
    assert!(Time::new(-1, 999_999_999) < Time::new(0, 0));
    assert_eq!(Time::new(7, 999_999_999).millis(), 7_999);
    assert_eq!(Time::new(7, 999_999_999).whole_seconds(), Time::new(7, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn times_are_written_as_chrono_does(seconds in -62_167_219_200..253_402_300_800_i64, nanoseconds in 0..1_000_000_000_u32, coarse in prop::sample::select(vec![1, 1_000, 1_000_000, 1_000_000_000_u32])) {
        let nanoseconds = nanoseconds / coarse * coarse;
        let time = DateTime::<Utc>::from_timestamp(seconds, nanoseconds).expect("in range");
        let own = Time::new(seconds, nanoseconds);
        prop_assert_eq!(to_rfc3339(own), time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        prop_assert_eq!(parse_rfc3339(&to_rfc3339(own)), Some(own));
    }

    #[test]
    fn texts_are_taken_for_times_as_chrono_does(
        text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt _][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.][0-9]{0,12})?([Zz]|[+\\-][0-3][0-9]:[0-6][0-9]|)",
        changed in prop::option::of((any::<prop::sample::Index>(), "[-0-9:.TZ+ x\u{e9}]?")),
    ) {
        let mut text = text;
        if let Some((place, by)) = changed {
            let at = place.index(text.len());
            text.replace_range(at..=at, &by);
        }
        prop_assert_eq!(parse_rfc3339(&text), theirs(&text), "{}", text);
    }
}
