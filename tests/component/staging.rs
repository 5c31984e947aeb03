//! The staging directory: what goes in comes out, in order and unchanged, and what is no entry is
//! named and left.

use super::{POD, open, payload, payloads, refused, tree};
use crate::support::{MINIMAL, TestWorkspace, make_fifo, names, new_entry_id, without_waiting_at};
use consolidation_host::{Durability, Entry, EntryId, ErrorCode, Limits, Snapshot, Source, UnusableFile};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};

const ALL: Limits = Limits { max_entries: None, max_bytes: None };

/// Reads a snapshot to its end, in small batches.
fn read_all(snapshot: &Snapshot<'_>) -> (Vec<Entry>, Vec<UnusableFile>) {
    let (mut entries, mut unusable) = (Vec::new(), Vec::new());
    loop {
        let batch = snapshot.next_batch(100, 64 << 10).expect("read");
        entries.extend(batch.entries);
        unusable.extend(batch.unusable);
        if batch.done {
            return (entries, unusable);
        }
    }
}

fn ids(entries: &[Entry]) -> Vec<EntryId> {
    entries.iter().map(|entry| entry.id.clone()).collect()
}

#[test]
fn entries_are_listed_in_the_order_in_which_they_were_staged() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let mut staged = Vec::new();
    for number in 0..20 {
        staged.push(workspace.stage(&payload(number)).expect("staged"));
    }
    staged.extend(workspace.stage_many(&payloads(200), None).expect("staged"));
    assert!(staged.is_sorted());
    assert_eq!(workspace.list().expect("listed"), staged);
    let (entries, unusable) = read_all(&workspace.snapshot(ALL).expect("taken"));
    assert_eq!(ids(&entries), staged);
    assert_eq!(unusable, []);
    assert_eq!(entries[3].source, Source { segment_id: "segment-3".into(), start: 3, end: 12 });
    assert_eq!(place.temporaries(), [] as [String; 0]);
}

#[test]
fn entry_is_read_back_with_all_that_it_holds() {
    let place = TestWorkspace::new();
    let workspace = open(&place).with_durability(Durability::Full);
    let id = workspace.stage(&payload(7)).expect("staged");
    let entry = workspace.read(&id).expect("read");
    let file = fs::read(place.staged(&format!("{id}.json"))).expect("there is a file of that name");
    assert_eq!(entry.bytes, file.len() as u64);
    let json: serde_json::Value = serde_json::from_str(&entry.json).expect("one line of JSON");
    assert!(entry.json.starts_with(&format!("{{\"id\":\"{id}\",")), "{}", entry.json);
    assert!(!entry.json.contains('\n'));
    assert_eq!(json["source"]["segment_id"], "segment-7");
    assert_eq!(json["requests"][0]["summary"], "number 7");
    assert_eq!(json["decisions"], serde_json::json!([]));
    let summary = workspace.check_entries().expect("counted");
    assert_eq!((summary.entries, summary.bytes), (1, Some(entry.bytes)));
    assert_eq!(summary.oldest_ms, Some(entry.staged_at_ms));
    assert!(summary.now_ms >= entry.staged_at_ms);
}

#[test]
fn missing_staging_directory_is_an_empty_one() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
    assert_eq!(workspace.summarize().expect("counted").entries, 0);
    let snapshot = workspace.snapshot(ALL).expect("taken");
    assert!(snapshot.is_empty().expect("counted"));
    assert!(snapshot.next_batch(1, 1).expect("read").done);
    assert_eq!(workspace.stage_many(&[] as &[&str], None).expect("nothing to do"), [] as [String; 0]);
    refused(workspace.read(&new_entry_id().to_string()), ErrorCode::NotFound);
    assert_eq!(names(place.root()), [] as [String; 0], "looking makes nothing");
}

#[test]
fn payload_that_is_not_usable_is_named_and_nothing_is_staged() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let bad =
        ["{", "null", "[]", "\"text\"", "{}", "{\"source\": {\"segment_id\": \"s\", \"range\": [3, 1]}}"];
    for bad in bad {
        let payloads = [MINIMAL, MINIMAL, bad, MINIMAL];
        let error = refused(workspace.stage_many(&payloads, None), ErrorCode::InvalidInput);
        assert_eq!(error.index(), Some(2), "{bad}");
        assert_eq!(error.staged(), [] as [String; 0]);
        let error = refused(workspace.check(&payloads, None), ErrorCode::InvalidInput);
        assert_eq!(error.index(), Some(2), "{bad}");
        refused(workspace.stage(bad), ErrorCode::InvalidInput);
    }
    assert_eq!(names(place.root()), [] as [String; 0], "not even the directory is made");
    workspace.check(&payloads(3), None).expect("these are usable");
    assert_eq!(names(place.root()), [] as [String; 0], "checking makes nothing");
}

#[test]
fn default_source_is_for_payloads_without_one() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let source = Source { segment_id: "the \"default\"".into(), start: 0, end: u64::MAX };
    let bare = r#"{"attempts": [{"action": "a", "result": "r", "succeeded": true}]}"#;
    refused(workspace.stage(bare), ErrorCode::InvalidInput);
    let staged = workspace.stage_many(&[bare, &payload(1)], Some(&source)).expect("staged");
    assert_eq!(workspace.read(&staged[0]).expect("read").source, source);
    assert_eq!(workspace.read(&staged[1]).expect("read").source.segment_id, "segment-1");
}

#[test]
fn numbers_and_unknown_members_pass_through_unchanged() {
    let digits = "7".repeat(400);
    let numbers = [
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "1e400",
        "-0",
        "1.0",
        "1.10",
        "1E+2",
        &digits,
    ];
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let text = format!(
        r#"{{"source": {{"segment_id": "s", "range": [0, 1], "note": 1.0}}, "extra": [{}], "z": {{"b": 1, "a": 2}}}}"#,
        numbers.join(", ")
    );
    let id = workspace.stage(&text).expect("staged");
    let file = fs::read_to_string(place.staged(&format!("{id}.json"))).expect("it is text");
    let entry = workspace.read(&id).expect("read");
    for number in numbers {
        assert!(file.lines().any(|line| line.trim().trim_end_matches(',') == number), "{number}: {file}");
    }
    assert!(entry.json.contains(&format!("\"extra\":[{}]", numbers.join(","))), "{}", entry.json);
    assert!(entry.json.contains(r#""z":{"b":1,"a":2}"#), "{}", entry.json);
    assert!(entry.json.contains(r#""note":1.0"#), "{}", entry.json);
}

#[test]
fn big_payload_is_staged_and_one_that_is_too_big_is_refused() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let of_size = |size: usize| {
        format!(
            r#"{{"source": {{"segment_id": "s", "range": [0, 1]}}, "requests": [{{"intent": "i", "summary": "{}"}}]}}"#,
            "\u{e9}".repeat(size / 2)
        )
    };
    let id = workspace.stage(&of_size(1_000_000)).expect("just below the limit");
    let entry = workspace.read(&id).expect("read");
    assert!(entry.bytes > 1_000_000);
    let (entries, _) = read_all(&workspace.snapshot(ALL).expect("taken"));
    assert_eq!(ids(&entries), [id]);
    let error = refused(workspace.stage(&of_size(1 << 20)), ErrorCode::InvalidInput);
    assert_eq!(error.index(), Some(0));
    refused(workspace.stage(&of_size(20 << 20)), ErrorCode::InvalidInput);
    assert_eq!(workspace.list().expect("listed").len(), 1);
    assert_eq!(place.temporaries(), [] as [String; 0]);
}

#[test]
fn snapshot_keeps_to_its_caps_and_says_what_is_left() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let staged = workspace.stage_many(&[payload(1).as_str(); 10], None).expect("staged");
    let size = workspace.read(&staged[0]).expect("read").bytes;

    let snapshot = workspace.snapshot(Limits { max_entries: Some(4), max_bytes: None }).expect("taken");
    assert_eq!(snapshot.ids().expect("listed"), staged[..4]);
    assert_eq!((snapshot.len().expect("counted"), snapshot.left().expect("counted")), (4, 6));

    let snapshot =
        workspace.snapshot(Limits { max_entries: None, max_bytes: Some(size * 3 + 1) }).expect("taken");
    assert_eq!(snapshot.ids().expect("listed"), staged[..3]);
    assert_eq!(snapshot.left().expect("counted"), 7);

    // One that alone exceeds the cap would wait for ever.
    let snapshot = workspace.snapshot(Limits { max_entries: None, max_bytes: Some(1) }).expect("taken");
    assert_eq!(snapshot.ids().expect("listed"), staged[..1]);

    let snapshot = workspace.snapshot(Limits { max_entries: Some(0), max_bytes: None }).expect("taken");
    assert_eq!((snapshot.len().expect("counted"), snapshot.left().expect("counted")), (0, 10));
    assert!(snapshot.next_batch(1, 1).expect("read").done);
}

#[test]
fn batches_keep_to_their_caps_and_give_every_entry_once() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let staged = workspace.stage_many(&payloads(10), None).expect("staged");
    for (max_entries, max_bytes, expected) in [(3, u64::MAX, 3), (0, u64::MAX, 1), (100, 0, 1), (100, 1, 1)] {
        let snapshot = workspace.snapshot(ALL).expect("taken");
        let mut seen = Vec::new();
        loop {
            let batch = snapshot.next_batch(max_entries, max_bytes).expect("read");
            seen.extend(ids(&batch.entries));
            if batch.done {
                break;
            }
            assert_eq!(batch.entries.len(), expected);
        }
        assert_eq!(seen, staged);
        let batch = snapshot.next_batch(max_entries, max_bytes).expect("read");
        assert!(batch.done && batch.entries.is_empty());
    }
}

#[test]
fn entries_that_arrive_later_stay_for_the_next_run() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let first = workspace.stage_many(&payloads(3), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(ALL).expect("taken");
    // One from this handle, one from another, one that another program puts there with an old time.
    let mut later = vec![
        workspace.stage(&payload(4)).expect("staged"),
        open(&place).stage(&payload(5)).expect("staged"),
        place.put_entry().to_string(),
    ];
    let (entries, _) = read_all(&snapshot);
    assert_eq!(ids(&entries), first);
    lock.record_snapshot(&snapshot).expect("recorded");
    later.push(workspace.stage(&payload(6)).expect("staged"));
    // Ids that two handles make in the same millisecond are in no order.
    later.sort_unstable();
    drop(snapshot);
    let report = lock.release_with_cleanup().expect("it is released");
    assert_eq!((report.removed, report.missing), (3, 0));
    assert_eq!(workspace.list().expect("listed"), later);
}

#[test]
fn entry_that_vanishes_is_passed_over() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let staged = workspace.stage_many(&payloads(3), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(ALL).expect("taken");
    fs::remove_file(place.staged(&format!("{}.json", staged[1]))).expect("removed");
    let (entries, unusable) = read_all(&snapshot);
    assert_eq!(ids(&entries), [staged[0].clone(), staged[2].clone()]);
    assert_eq!(unusable, []);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 2);
}

#[test]
fn counts_are_exact_at_the_sizes_where_listings_are_cut() {
    for count in [149, 150, 151, 500] {
        let place = TestWorkspace::new();
        let workspace = open(&place);
        let staged = workspace.stage_many(&payloads(count), None).expect("staged");
        assert_eq!(workspace.list().expect("listed"), staged);
        assert_eq!(workspace.summarize().expect("counted").entries, count);
    }
}

#[test]
fn five_thousand_entries_are_counted_read_and_removed() {
    const COUNT: u64 = 5_000;
    let place = TestWorkspace::new();
    let workspace = open(&place);
    let staged = workspace.stage_many(&payloads(COUNT), None).expect("staged");
    assert_eq!(workspace.list().expect("listed"), staged);
    assert_eq!(workspace.summarize().expect("counted").entries, COUNT);
    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(ALL).expect("taken");
    assert_eq!(snapshot.len().expect("counted"), COUNT);
    let (entries, unusable) = read_all(&snapshot);
    assert_eq!((ids(&entries), unusable.len()), (staged, 0));
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(place.lock_record().consumed_ids.len(), COUNT);
    let report = lock.release_with_cleanup().expect("it is released");
    assert_eq!((report.removed, report.missing, report.failed.len()), (COUNT, 0, 0));
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
    place.assert_nothing_left();
}

/// Files that look like entries and are none. Each has its reason, and none is opened by a link,
/// consumed or changed.
#[test]
fn unusable_files_are_named_and_left_as_they_are() {
    let place = TestWorkspace::with_staging();
    let outside = TestWorkspace::new();
    let workspace = open(&place);
    let id = || format!("{}.json", new_entry_id());
    let mut expected: Vec<(String, &str)> = Vec::new();

    fs::write(outside.root().join("secret.json"), MINIMAL).expect("written");
    fs::write(place.root().join("inside.json"), MINIMAL).expect("written");
    for target in [outside.root().join("secret.json"), "../inside.json".into(), "nowhere".into()] {
        let name = id();
        symlink(target, place.staged(&name)).expect("linked");
        expected.push((name, "a symbolic link"));
    }
    let directory = id();
    fs::create_dir(place.staged(&directory)).expect("made");
    fs::write(place.staged(&directory).join("inside"), "keep").expect("written");
    expected.push((directory, "a directory"));
    let fifo = id();
    make_fifo(&place.staged(&fifo));
    expected.push((fifo.clone(), "a special file"));

    let lower = new_entry_id().to_string();
    for name in [
        lower.to_uppercase(),
        format!("{{{lower}}}"),
        format!("urn:uuid:{lower}"),
        lower.replace('-', ""),
        "4d7f4b3c-1f6c-4a9e-8d6b-0123456789ab".into(),
        "00000000-0000-0000-0000-000000000000".into(),
        "notes".into(),
        "U1 (conflicted copy)".into(),
    ] {
        let name = format!("{name}.json");
        place.put(&name, MINIMAL);
        expected.push((name, "the name is not"));
    }
    let huge = format!("{}{}", MINIMAL, " ".repeat(2 << 20));
    for (content, reason) in [
        (&b""[..], "empty"),
        (&[0; 300], "NUL"),
        (&MINIMAL.as_bytes()[..20], "does not end"),
        (huge.as_bytes(), "bytes"),
        (b"{\"source\": {\"segment_id\": \"\xff\", \"range\": [0, 1]}}", "not UTF-8"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
        (b"null", ""),
        (b"[]", ""),
        (b"\"text\"", ""),
        (b"{\"source\": {\"segment_id\": NaN, \"range\": [0, 1]}}", ""),
        (b"{\"source\": {\"segment_id\": \"\\ud800\", \"range\": [0, 1]}}", ""),
        (b"{} {}", ""),
        (b"{}", "source"),
    ] {
        let name = id();
        place.put(&name, content);
        expected.push((name, reason));
    }
    // Other systems have no such names.
    if cfg!(target_os = "linux") {
        let odd = place.staging().join(OsStr::from_bytes(b"\xff\xfe.json"));
        fs::write(odd, MINIMAL).expect("written");
        expected.push(("?".into(), "UTF-8"));
    }

    // Not anybody's business: copies and leftovers of editors and file systems.
    for name in ["._x.json", ".DS_Store", ".x.json.swp", "x.json~", "x.json.tmp", "#x.json#", ".nfs0000abcd"]
    {
        place.put(name, "whatever");
    }
    fs::create_dir(place.staged("quarantine")).expect("made");

    let (before, before_outside) = (tree(place.root()), tree(outside.root()));
    let good = workspace.stage_many(&payloads(2), None).expect("staged");

    expected.sort_unstable();
    let check = |found: &[UnusableFile]| {
        let mut found: Vec<_> = found.to_vec();
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<&str> = found.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, expected.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        for (file, (_, reason)) in found.iter().zip(&expected) {
            assert!(file.reason.contains(reason), "{file:?} is to tell of {reason:?}");
            assert!(!file.reason.is_empty());
        }
    };
    let work = workspace.clone();
    let path = place.staged(&fifo);
    let summary = without_waiting_at(&path, move || work.check_entries().expect("counted"));
    assert_eq!(summary.entries, 2);
    assert_eq!(summary.unusable_count, expected.len() as u64);
    check(&summary.unusable);

    let lock = workspace.acquire(POD).expect("the lock is free");
    let snapshot = lock.snapshot(ALL).expect("taken");
    let mut unusable = snapshot.unusable().expect("listed");
    let (entries, found) = read_all(&snapshot);
    unusable.extend(found);
    assert_eq!(ids(&entries), good);
    check(&unusable);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 2);

    let mut after = tree(place.root());
    after.remove(&place.staged(".owners"));
    assert_eq!(after, before);
    assert_eq!(tree(outside.root()), before_outside);
}

#[test]
fn byte_order_mark_and_carriage_returns_are_accepted() {
    let place = TestWorkspace::with_staging();
    let workspace = open(&place);
    for content in [format!("\u{feff}{MINIMAL}"), format!("{}\r\n", MINIMAL.replace(',', ",\r\n"))] {
        let id = new_entry_id();
        place.put(&id.file_name(), &content);
        assert_eq!(workspace.read(&id.to_string()).expect("read").source.segment_id, "conv-1/session-1");
    }
    workspace.stage(&format!("\u{feff}{MINIMAL}")).expect("staged");
    assert_eq!(workspace.check_entries().expect("counted").unusable, []);
}

#[test]
fn entry_that_is_still_being_written_is_consumed_once_it_is_whole() {
    let place = TestWorkspace::with_staging();
    let workspace = open(&place);
    let id = new_entry_id();
    place.put(&id.file_name(), &MINIMAL[..10]);
    for (content, removed) in [(&MINIMAL[..10], 0), (MINIMAL, 1)] {
        place.put(&id.file_name(), content);
        let lock = workspace.acquire(POD).expect("the lock is free");
        let snapshot = lock.snapshot(ALL).expect("taken");
        let (entries, unusable) = read_all(&snapshot);
        assert_eq!((entries.len(), unusable.len()), (removed, 1 - removed));
        lock.record_snapshot(&snapshot).expect("recorded");
        drop(snapshot);
        assert_eq!(lock.release_with_cleanup().expect("it is released").removed, removed as u64);
    }
    assert_eq!(place.visible().len(), 0);
}

#[test]
fn reading_what_is_no_entry_says_why() {
    let place = TestWorkspace::with_staging();
    let workspace = open(&place);
    fs::write(place.root().join("victim.json"), MINIMAL).expect("written");
    let name = || new_entry_id().to_string();
    let (link, directory, half) = (name(), name(), name());
    symlink("../victim.json", place.staged(&format!("{link}.json"))).expect("linked");
    fs::create_dir(place.staged(&format!("{directory}.json"))).expect("made");
    place.put(&format!("{half}.json"), "{\"source\"");
    let error = refused(workspace.read(&link), ErrorCode::WrongFileType);
    assert!(error.to_string().contains("a symbolic link"), "{error}");
    assert_eq!(error.path(), Some(&*workspace.root().join(format!("_staging/{link}.json"))));
    refused(workspace.read(&directory), ErrorCode::WrongFileType);
    refused(workspace.read(&half), ErrorCode::Unusable);
    refused(workspace.read(&name()), ErrorCode::NotFound);
    for bad in ["../victim", "", ".", "/etc/passwd", &half.to_uppercase(), &format!("{half}.json")] {
        refused(workspace.read(bad), ErrorCode::InvalidInput);
    }
}

/// Between the listing and the read somebody may put anything in the place of an entry.
#[test]
fn entry_that_turns_into_something_else_is_not_followed_and_not_waited_for() {
    let place = TestWorkspace::new();
    fs::write(place.root().join("victim.json"), MINIMAL).expect("written");
    let workspace = open(&place);
    let staged = workspace.stage_many(&payloads(4), None).expect("staged");
    let paths: Vec<_> = staged.iter().map(|id| place.staged(&format!("{id}.json"))).collect();
    let snapshot = workspace.snapshot(ALL).expect("taken");
    for path in &paths[..3] {
        fs::remove_file(path).expect("removed");
    }
    symlink("../victim.json", &paths[0]).expect("linked");
    fs::create_dir(&paths[1]).expect("made");
    make_fifo(&paths[2]);
    let (entries, unusable) = without_waiting_at(&paths[2], move || read_all(&snapshot));
    assert_eq!(ids(&entries), staged[3..]);
    let mut unusable: Vec<String> = unusable.into_iter().map(|file| file.name).collect();
    unusable.sort_unstable();
    assert_eq!(unusable, staged[..3].iter().map(|id| format!("{id}.json")).collect::<Vec<_>>());
}

/// Modes count for others than root only.
#[test]
fn file_without_read_permission_is_unusable_and_the_others_are_read() {
    let name = concat!(module_path!(), "::file_without_read_permission_is_unusable_and_the_others_are_read");
    super::own_process::without_privileges(name, || {
        let place = TestWorkspace::new();
        let workspace = open(&place);
        let staged = workspace.stage_many(&payloads(3), None).expect("staged");
        let closed = place.staged(&format!("{}.json", staged[1]));
        fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).expect("closed");
        let summary = workspace.check_entries().expect("counted");
        assert_eq!((summary.entries, summary.unusable_count), (2, 1));
        assert!(summary.unusable[0].reason.contains("permission denied"), "{:?}", summary.unusable);
        let lock = workspace.acquire(POD).expect("the lock is free");
        let snapshot = lock.snapshot(ALL).expect("taken");
        assert_eq!(read_all(&snapshot).0.len(), 2);
        lock.record_snapshot(&snapshot).expect("recorded");
        drop(snapshot);
        assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 2);
        assert!(closed.is_file());
    });
}

#[test]
fn link_in_the_place_of_the_staging_directory_is_not_followed() {
    let elsewhere = TestWorkspace::new();
    elsewhere.put_entry();
    for target in [elsewhere.staging(), "elsewhere".into(), "nowhere".into()] {
        let place = TestWorkspace::new();
        fs::create_dir(place.root().join("elsewhere")).expect("made");
        symlink(&target, place.staging()).expect("linked");
        let workspace = open(&place);
        let (before, before_elsewhere) = (tree(place.root()), tree(elsewhere.root()));
        let error = refused(workspace.stage(&payload(1)), ErrorCode::WrongFileType);
        assert!(error.path().is_some_and(|path| path.ends_with("_staging")), "{error:?}");
        refused(workspace.list(), ErrorCode::WrongFileType);
        refused(workspace.summarize(), ErrorCode::WrongFileType);
        refused(workspace.snapshot(ALL), ErrorCode::WrongFileType);
        refused(workspace.lock_status(), ErrorCode::WrongFileType);
        refused(workspace.acquire(POD), ErrorCode::WrongFileType);
        refused(workspace.unlock(POD, true, None), ErrorCode::WrongFileType);
        assert_eq!(tree(place.root()), before);
        assert_eq!(tree(elsewhere.root()), before_elsewhere);
    }
}

#[test]
fn file_in_the_place_of_the_staging_directory_is_left() {
    let place = TestWorkspace::new();
    fs::write(place.staging(), "keep").expect("written");
    let workspace = open(&place);
    refused(workspace.stage(&payload(1)), ErrorCode::WrongFileType);
    refused(workspace.list(), ErrorCode::WrongFileType);
    refused(workspace.acquire(POD), ErrorCode::WrongFileType);
    assert_eq!(fs::read(place.staging()).expect("it is a file"), b"keep");
}
