//! The lock record, as other programs write it, as later versions may write it, and as we do.

use crate::support::system::{World, scope, wall_clock};
use crate::support::{OriginalRecord, TestWorkspace, new_entry_id, original_record};
use consolidation_guest::fs::Time;
use consolidation_guest::layout::Token;
use consolidation_guest::lock::AcquireOptions;
use consolidation_guest::record::{LockRecord, TOKEN_TAIL};
use consolidation_guest::system::Identity;
use consolidation_guest::time::to_rfc3339;
use proptest::prelude::*;
use serde_json::Value;

const STARTED_AT: &str = "2026-05-01T12:00:00.123456789Z";

fn identity() -> Identity {
    Identity { pid: 4242, start: "812345".into(), scope: scope("machine1", "boot1", "4026531836") }
}

fn token() -> Token {
    Token::new([0xab; 16])
}

fn ours() -> LockRecord {
    let now = Time::new(1_777_636_800, 123_456_789);
    LockRecord::new(&identity(), "pod-a", now, token(), Some(60))
}

/// A record of the original format with this member in the place of one of its own, or one more.
fn original_with(name: &str, value: &str) -> String {
    let mut members = vec![
        ("pid", "4242"),
        ("pod_name", "\"pod-a\""),
        ("started_at", "\"2026-05-01T12:00:00Z\""),
        ("consumed_ids", "[]"),
    ];
    match members.iter_mut().find(|member| member.0 == name) {
        Some(member) => member.1 = value,
        None => members.push((name, value)),
    }
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn parse(text: &str) -> Result<LockRecord, String> {
    LockRecord::parse(text.as_bytes())
}

#[test]
fn original_record_is_read() {
    let id = new_entry_id().to_string();
    let record = parse(&original_record(4242, "pod-a", &[&id])).expect("a record");
    assert_eq!((record.pid, record.pod_name.as_str()), (4242, "pod-a"));
    assert_eq!(record.consumed_ids.texts(), [id]);
    assert_eq!((record.token, record.process_start, record.scope), (None, None, None));
    assert_eq!((record.lease_seconds, record.command_group), (None, None));
}

#[test]
fn ours_is_read_by_a_reader_of_the_four_members() {
    let mut record = ours();
    record.consumed_ids = vec![new_entry_id()].into();
    let original: OriginalRecord = serde_json::from_slice(&record.to_file()).expect("four members");
    assert_eq!(
        original,
        OriginalRecord {
            pid: 4242,
            pod_name: "pod-a".into(),
            started_at: STARTED_AT.into(),
            consumed_ids: record.consumed_ids.texts(),
        }
    );
    assert_eq!(LockRecord::parse(&record.to_file()), Ok(record));
}

#[test]
fn file_is_pretty_json_with_the_members_in_order() {
    let mut record = ours();
    let id =
        consolidation_guest::layout::EntryId::parse("0196f0e1-2b3c-7def-8123-456789abcdef").expect("an id");
    record.consumed_ids = vec![id].into();
    record.command_group = Some(77);
    let expected = r#"{
  "pid": 4242,
  "pod_name": "pod-a",
  "started_at": "2026-05-01T12:00:00.123456789Z",
  "consumed_ids": [
    "0196f0e1-2b3c-7def-8123-456789abcdef"
  ],
  "token": "abababababababababababababababab",
  "process_start": "812345",
  "scope": {
    "machine": "machine1",
    "boot": "boot1",
    "pid_namespace": "4026531836"
  },
  "lease_seconds": 60,
  "command_group": 77
}
"#;
    assert_eq!(String::from_utf8(record.to_file()).as_deref(), Ok(expected));
}

#[test]
fn unknown_start_and_endless_lease_are_read_as_such() {
    let nobody = Identity { start: String::new(), ..identity() };
    let record = LockRecord::new(&nobody, "pod-a", wall_clock(), token(), None);
    let read = LockRecord::parse(&record.to_file()).expect("our own record");
    assert_eq!(read, record);
    assert_eq!((read.process_start, read.lease_seconds, read.command_group), (None, None, None));
}

#[test]
fn record_written_on_one_line_or_with_crlf_or_a_byte_order_mark_is_read() {
    let text = original_record(7, "pod-a", &[]);
    let value: Value = serde_json::from_str(&text).expect("JSON");
    for variant in
        [value.to_string(), text.replace('\n', "\r\n"), format!("\u{feff}{text}"), format!("{text}\n\n")]
    {
        assert_eq!(parse(&variant).expect("a record").pid, 7, "{variant:?}");
    }
    parse(&format!("\u{feff}\u{feff}{text}")).expect_err("two marks");
}

#[test]
fn pid_is_a_whole_number_of_32_bits() {
    for (value, pid) in [("0", 0), ("1", 1), ("2147483648", 1 << 31), ("4294967295", u32::MAX)] {
        assert_eq!(parse(&original_with("pid", value)).expect("a record").pid, pid);
    }
    for value in [
        "4294967296",
        "4294971538",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "1e3",
        "12.0",
        "12.5",
        "-1",
        "-0",
        "\"123\"",
        "null",
        "[1]",
        "{}",
        "true",
    ] {
        parse(&original_with("pid", value)).expect_err(value);
    }
}

#[test]
fn each_of_the_four_members_must_be_there_once() {
    for name in ["pid", "pod_name", "started_at", "consumed_ids"] {
        let mut value: Value = serde_json::from_str(&original_with("pid", "1")).expect("JSON");
        value.as_object_mut().expect("an object").remove(name);
        let reason = parse(&value.to_string()).expect_err(name);
        assert!(reason.contains(name), "{reason}");
        parse(&original_with(name, "null")).expect_err(name);
        let text = original_with(name, "1");
        parse(&format!("{},\"{name}\":1}}", &text[..text.len() - 1])).expect_err(name);
    }
    for (name, value) in [
        ("pod_name", "7"),
        ("started_at", "7"),
        ("consumed_ids", "{}"),
        ("consumed_ids", "[7]"),
        ("consumed_ids", "[null]"),
        ("consumed_ids", "\"x\""),
    ] {
        parse(&original_with(name, value)).expect_err(value);
    }
}

#[test]
fn started_at_is_a_time_of_rfc_3339_and_kept_as_it_is() {
    for text in [
        "2026-05-01T12:00:00Z",
        STARTED_AT,
        "2026-05-01T14:00:00+02:00",
        "2026-05-01T12:00:00.5-00:00",
        "2026-05-01t12:00:00z",
        "2026-05-01 12:00:00Z",
    ] {
        let record = parse(&original_with("started_at", &format!("\"{text}\""))).expect(text);
        assert_eq!(record.started_at, text);
        assert_eq!(record.started_at().expect("a time").millis() / 1000, 1_777_636_800, "{text}");
    }
    for text in ["", "yesterday", "2026-05-01", "2026-05-01T12:00:00", "2026-13-01T12:00:00Z", "1777636800"] {
        parse(&original_with("started_at", &format!("\"{text}\""))).expect_err(text);
    }
}

#[test]
fn time_is_written_with_as_many_digits_as_it_needs() {
    for (nanoseconds, expected) in [
        (0, "2026-05-01T12:00:00Z"),
        (120_000_000, "2026-05-01T12:00:00.120Z"),
        (123_456_000, "2026-05-01T12:00:00.123456Z"),
        (123_456_789, STARTED_AT),
    ] {
        let time = Time::new(1_777_636_800, nanoseconds);
        assert_eq!(to_rfc3339(time), expected);
    }
    assert_eq!(to_rfc3339(Time::new(-1, 500_000_000)), "1969-12-31T23:59:59.500Z");
    // A clock that is beside itself must not bring the process down.
    to_rfc3339(Time::from_nanos(i128::MAX));
    to_rfc3339(Time::from_nanos(i128::MIN));
}

#[test]
fn other_types_in_later_members_do_not_make_it_unreadable() {
    for name in ["token", "process_start", "scope", "lease_seconds", "command_group"] {
        for value in ["null", "7", "-1", "1.5", "1e400", "\"x\"", "[]", "{}", "[{\"a\":[1]}]", "true"] {
            let record = parse(&original_with(name, value));
            assert_eq!(record.map(|record| record.pid), Ok(4242), "\"{name}\": {value}");
        }
    }
    assert_eq!(parse(&original_with("lease_seconds", "-1")).expect("a record").lease_seconds, None);
    assert_eq!(parse(&original_with("lease_seconds", "4294967296")).expect("a record").lease_seconds, None);
    assert_eq!(parse(&original_with("version", "{\"a\":[1,2]}")).expect("a record").pid, 4242);
}

#[test]
fn parts_of_a_scope_may_be_missing() {
    let record = parse(&original_with("scope", "{\"boot\":\"b\",\"cluster\":7}")).expect("a record");
    assert_eq!(record.scope, Some(scope("", "b", "")));
}

#[test]
fn what_a_crash_or_a_stranger_leaves_is_refused_with_a_reason() {
    assert!(parse("").expect_err("nothing").contains("empty"));
    assert!(LockRecord::parse(&[0; 64]).expect_err("zeros").contains("NUL"));
    let whole = original_record(4242, "pod-a", &[]);
    for end in 1..whole.len() {
        parse(&whole[..end]).expect_err("cut off");
    }
    for text in
        ["null", "[]", "{}", "7", "4242\n", "\"text\"", &format!("{whole}{whole}"), &format!("{whole}x")]
    {
        parse(text).expect_err(text);
    }
    LockRecord::parse(b"\xff\xfe{\0}\0").expect_err("UTF-16");
    LockRecord::parse(&whole.replace("pod-a", "pod-\u{0}").into_bytes()).expect_err("a raw NUL");
    let mut latin1 = whole.into_bytes();
    let position = latin1.windows(5).position(|window| window == b"pod-a").expect("the pod");
    latin1[position] = 0xe9;
    LockRecord::parse(&latin1).expect_err("no UTF-8");
}

#[test]
fn odd_pod_names_come_back_as_they_were() {
    for pod in ["", " ", "say \"hi\"\n\t\\", "\u{0}\u{1f}\u{7f}", "\u{1f600}\u{2028}", &"x".repeat(1_024)] {
        let record = LockRecord::new(&identity(), pod, wall_clock(), token(), None);
        assert_eq!(LockRecord::parse(&record.to_file()).expect("a record").pod_name, pod);
    }
}

/// Is the token of this record where the release looks for it?
fn shows_token_in_its_tail(record: &LockRecord, token: Token) -> bool {
    let content = record.to_file();
    let tail = &content[content.len().saturating_sub(usize::try_from(TOKEN_TAIL).expect("fits"))..];
    let mark = LockRecord::token_mark(token);
    tail.windows(mark.len()).any(|window| window == mark)
}

#[test]
fn token_is_within_the_tail_however_long_the_head_is() {
    let mut record =
        LockRecord::new(&identity(), &"\"\n\u{1}".repeat(300), wall_clock(), token(), Some(u32::MAX));
    record.consumed_ids = vec![new_entry_id(); 100_000].into();
    record.command_group = Some(u32::MAX);
    assert!(shows_token_in_its_tail(&record, token()));
}

#[test]
fn lock_with_a_hundred_thousand_ids_and_the_longest_texts_is_still_known_as_ours() {
    let workspace = TestWorkspace::with_staging();
    // A control character is six in JSON: the worst that a host can give.
    let odd = "\u{1}".repeat(1_000);
    let world = World::in_scope(scope(&odd, &odd, &odd));
    let pod = workspace.open(&world.start_at(4242, &odd));
    let options = AcquireOptions {
        pod_name: "\"\n".repeat(500),
        lease_seconds: Some(u32::MAX),
        token: None,
        ..AcquireOptions::default()
    };
    let (mut held, _) = pod.acquire(&options).expect("held");
    pod.record_consumed(&mut held, vec![new_entry_id(); 100_000]).expect("rewritten");
    pod.record_command_group(&mut held, Some(u32::MAX)).expect("rewritten");
    assert!(shows_token_in_its_tail(&workspace.lock_record(), held.token()));
    held.refresh().expect("still ours");
    let report = held.release_with_cleanup().expect("still ours");
    assert_eq!(report.missing, 100_000);
    workspace.assert_nothing_left();
}

#[test]
fn token_in_the_text_of_another_member_is_not_the_token() {
    let mark = String::from_utf8(LockRecord::token_mark(token()).to_vec()).expect("ASCII");
    let other = Identity { start: mark.clone(), scope: scope(&mark, &mark, &mark), ..identity() };
    let record = LockRecord::new(&other, &mark, wall_clock(), Token::new([1; 16]), None);
    assert!(!shows_token_in_its_tail(&record, token()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(
        pid in any::<u32>(), pod in ".{0,40}", start in ".{0,20}", machine in ".{0,20}", boot in ".{0,20}",
        seconds in 0_i64..4_000_000_000, nanoseconds in 0_u32..1_000_000_000, lease in any::<Option<u32>>(),
        group in any::<Option<u32>>(), random in any::<[u8; 16]>()
    ) {
        let owner = Identity { pid, start, scope: scope(&machine, &boot, "") };
        let now = Time::new(seconds, nanoseconds);
        let mut record = LockRecord::new(&owner, &pod, now, Token::new(random), lease);
        record.command_group = group;
        let read = LockRecord::parse(&record.to_file());
        prop_assert_eq!(read.as_ref(), Ok(&record));
        prop_assert_eq!(record.started_at(), Some(now));
        let original: Result<OriginalRecord, _> = serde_json::from_slice(&record.to_file());
        prop_assert_eq!(original.map(|original| original.pid).ok(), Some(pid));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = LockRecord::parse(&bytes);
    }
}
