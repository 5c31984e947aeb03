//! The staging directory: whole entries or none, in order, and nothing that is not one.

use crate::support::faulty::{ALL_KINDS, Call, Fault, Faults, Op};
use crate::support::system::World;
use crate::support::{MINIMAL, TestWorkspace, entry_id, names, new_entry_id, set_age};
use consolidation_guest::durable::Durability;
use consolidation_guest::entry::{MAX_ENTRY_BYTES, Source, to_line};
use consolidation_guest::error::ErrorCode;
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::layout::EntryId;
use consolidation_guest::native::NativeDir;
use consolidation_guest::staging::{Limits, MAX_NAMED_UNUSABLE, Snapshot, Summary};
use std::fs;

type Workspace = consolidation_guest::workspace::Workspace<NativeDir, crate::support::system::TestSystem>;

fn open(workspace: &TestWorkspace) -> Workspace {
    workspace.open(&World::new().start(1))
}

fn payload(number: usize) -> String {
    format!("{},\"number\":{number}}}", &MINIMAL[..MINIMAL.len() - 1])
}

fn payloads(count: usize) -> Vec<String> {
    (0..count).map(payload).collect()
}

/// The ids that are left in the snapshot when all of it is read, and the names of unusable files.
fn read_all<D: consolidation_guest::fs::Dir>(snapshot: &mut Snapshot<D>) -> (Vec<EntryId>, Vec<String>) {
    let (mut ids, mut unusable) = (Vec::new(), Vec::new());
    loop {
        let batch = snapshot.next_batch(100, u64::MAX);
        ids.extend(batch.entries.iter().map(|entry| entry.id));
        unusable.extend(batch.unusable.into_iter().map(|file| file.name));
        if batch.done {
            return (ids, unusable);
        }
    }
}

/// The name and the reason of the only unusable file.
#[track_caller]
fn only_unusable(summary: &Summary) -> (&str, &str) {
    assert_eq!((summary.unusable_count, summary.unusable.len()), (1, 1), "{summary:?}");
    (&summary.unusable[0].name, &summary.unusable[0].reason)
}

#[test]
fn staged_payloads_are_listed_in_the_order_in_which_they_came() {
    let workspace = TestWorkspace::new();
    let pod = open(&workspace);
    let first = pod.stage(&payloads(20), None, Durability::Full).expect("staged");
    let second = pod.stage(&payloads(3), None, Durability::None).expect("staged");
    let all = [first, second].concat();
    assert!(all.is_sorted_by(|earlier, later| earlier < later));
    assert_eq!(pod.entry_ids().expect("listed"), all);
    for (number, id) in all.iter().enumerate() {
        let entry = pod.read_entry(*id).expect("an entry");
        let expected = format!("\"number\":{}}}", if number < 20 { number } else { number - 20 });
        assert!(entry.json.ends_with(&expected), "{}", entry.json);
        assert!(entry.json.starts_with(&format!("{{\"id\":\"{id}\",")), "{}", entry.json);
        assert_eq!(entry.bytes, fs::metadata(workspace.staged(&id.file_name())).expect("a file").len());
        assert_eq!(entry.source.segment_id, "conv-1/session-1");
    }
    workspace.assert_nothing_left();
}

#[test]
fn what_is_staged_is_pretty_json_with_a_line_end() {
    let workspace = TestWorkspace::new();
    let default = Source { segment_id: "s".into(), start: 1, end: 2 };
    let ids = open(&workspace).stage(&["{\"x\":[1.0]}"], Some(&default), Durability::Full).expect("staged");
    let file = fs::read_to_string(workspace.staged(&ids[0].file_name())).expect("a file");
    assert!(file.starts_with("{\n  \"source\": {\n    \"segment_id\": \"s\","), "{file}");
    assert!(file.ends_with("  \"x\": [\n    1.0\n  ]\n}\n"), "{file}");
}

#[test]
fn missing_staging_directory_is_an_empty_one_and_is_not_made_by_looking() {
    let workspace = TestWorkspace::new();
    let pod = open(&workspace);
    assert_eq!(pod.entry_ids().expect("listed"), []);
    assert_eq!(pod.summarize().expect("a summary"), Summary::default());
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!((snapshot.ids().len(), snapshot.left()), (0, 0));
    let batch = snapshot.next_batch(1, 1);
    assert!(batch.done && batch.entries.is_empty() && batch.unusable.is_empty());
    assert_eq!(pod.read_entry(new_entry_id()).expect_err("nothing").code, ErrorCode::NotFound);
    pod.check_payloads(&[MINIMAL], None).expect("usable");
    assert_eq!(pod.stage(&[] as &[&str], None, Durability::Full).expect("nothing to do"), []);
    assert_eq!(names(workspace.root()), [] as [String; 0]);
}

#[test]
fn staging_directory_is_made_when_it_is_needed_and_made_durable() {
    let workspace = TestWorkspace::new();
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(1), &faults);
    let id = pod.stage(&[MINIMAL], None, Durability::Full).expect("staged")[0];
    let (temporary, entry) =
        (format!("_staging/{}", id.temporary_name()), format!("_staging/{}", id.file_name()));
    assert_eq!(
        faults.changes(),
        [
            "CreateDir _staging".to_owned(),
            "SyncNames .".into(),
            format!("Create {temporary}"),
            format!("Write {temporary}"),
            format!("Sync {temporary}"),
            format!("Rename {temporary} -> {entry}"),
            "SyncNames _staging".into(),
        ]
    );
}

#[test]
fn staging_directory_that_another_made_is_made_durable_too() {
    // The lock makes it without synchronising anything; the entry must not go with it.
    let workspace = TestWorkspace::new();
    let faults = Faults::none();
    let system = World::new().start(1);
    let (held, _) = workspace.open_faulty(&system, &faults).acquire(&Default::default()).expect("held");
    let pod = workspace.open_faulty(&system, &faults);
    pod.stage(&[MINIMAL], None, Durability::Full).expect("staged");
    let changes = faults.changes();
    let made = changes.iter().position(|change| change == "CreateDir _staging").expect("made");
    assert!(changes[made..].iter().any(|change| change == "SyncNames ."), "{changes:?}");
    held.release_only(None).expect("released");
}

#[test]
fn all_data_is_on_the_disk_before_the_first_name_appears() {
    let workspace = TestWorkspace::with_staging();
    let faults = Faults::none();
    let pod = workspace.open_faulty(&World::new().start(1), &faults);
    pod.stage(&payloads(5), None, Durability::Full).expect("staged");
    let changes = faults.changes();
    let last_sync = changes.iter().rposition(|change| change.starts_with("Sync _")).expect("synchronised");
    let first_rename = changes.iter().position(|change| change.starts_with("Rename")).expect("renamed");
    assert!(last_sync < first_rename, "{changes:?}");
    assert_eq!(changes.last().map(String::as_str), Some("SyncNames _staging"));
}

#[test]
fn one_bad_payload_keeps_all_of_its_batch_out() {
    let workspace = TestWorkspace::new();
    let pod = open(&workspace);
    for bad in [
        "{}",
        "",
        "[]",
        "{\"text\":\"\\ud800\"",
        r#"{"source":{"segment_id":"s","range":[0,1]},"x":"\ud800"}"#,
    ] {
        let batch = [MINIMAL, MINIMAL, bad, MINIMAL, "{"];
        for error in [
            pod.stage(&batch, None, Durability::Full).expect_err("a bad one"),
            pod.check_payloads(&batch, None).expect_err("a bad one"),
        ] {
            assert_eq!((error.code, error.index), (ErrorCode::InvalidInput, Some(2)), "{error}");
            assert_eq!(error.staged, []);
        }
    }
    assert_eq!(names(workspace.root()), [] as [String; 0], "nothing is made for a bad batch");
}

#[test]
fn payload_larger_than_an_entry_may_be_is_refused() {
    let workspace = TestWorkspace::new();
    let huge = format!("{},\"x\":\"{}\"}}", &MINIMAL[..MINIMAL.len() - 1], "y".repeat(1024 * 1024));
    let error = open(&workspace).stage(&[huge], None, Durability::Full).expect_err("too large");
    assert_eq!((error.code, error.index), (ErrorCode::InvalidInput, Some(0)));
}

#[test]
fn something_else_in_the_place_of_the_staging_directory_is_refused_and_untouched() {
    type Make = fn(&TestWorkspace);
    let makes: [(&str, Make); 4] = [
        ("a file", |workspace| fs::write(workspace.staging(), "keep").expect("a file")),
        ("a dangling link", |workspace| link("nowhere", &workspace.staging())),
        ("a link to a directory", |workspace| {
            fs::create_dir(workspace.root().join("elsewhere")).expect("a directory");
            link("elsewhere", &workspace.staging());
        }),
        ("a link out of the workspace", |workspace| link("/tmp", &workspace.staging())),
    ];
    for (what, make) in makes {
        let workspace = TestWorkspace::new();
        make(&workspace);
        let before = (names(workspace.root()), fs::read_link(workspace.staging()).ok());
        let pod = open(&workspace);
        for error in [
            pod.stage(&[MINIMAL], None, Durability::Full).expect_err(what),
            pod.entry_ids().expect_err(what),
            pod.check_entries().expect_err(what),
            pod.take_snapshot(Limits::default()).expect_err(what),
            pod.read_entry(new_entry_id()).expect_err(what),
            pod.acquire(&Default::default()).expect_err(what),
            pod.lock_status().expect_err(what),
        ] {
            assert_eq!(error.code, ErrorCode::WrongFileType, "{what}: {error}");
            assert!(error.message.contains("_staging"), "{what}: {error}");
        }
        assert_eq!((names(workspace.root()), fs::read_link(workspace.staging()).ok()), before);
        assert_eq!(names(&workspace.root().join("elsewhere")), [] as [String; 0]);
    }
}

#[cfg(unix)]
fn link(target: &str, at: &std::path::Path) {
    std::os::unix::fs::symlink(target, at).expect("a symbolic link");
}

#[test]
fn files_of_other_kinds_named_like_entries_are_named_and_never_followed() {
    let workspace = TestWorkspace::with_staging();
    fs::write(workspace.root().join("victim.json"), MINIMAL).expect("a victim");
    let good = workspace.put_entry();
    let kinds = ["a link", "a dangling link", "a link to the good one", "a directory", "a pipe"];
    let ids: Vec<EntryId> = kinds.iter().map(|_| new_entry_id()).collect();
    let at = |index: usize| workspace.staged(&ids[index].file_name());
    link("../victim.json", &at(0));
    link("nowhere", &at(1));
    link(&good.file_name(), &at(2));
    fs::create_dir(at(3)).expect("a directory");
    crate::support::make_fifo(&at(4));
    let pod = open(&workspace);
    assert_eq!(pod.entry_ids().expect("listed"), [good]);
    let summary = pod.check_entries().expect("a summary");
    assert_eq!((summary.entries, summary.unusable_count), (1, 5));
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!(snapshot.ids(), [good]);
    assert_eq!(snapshot.unusable(), summary.unusable);
    for (file, words) in summary.unusable.iter().zip([
        "symbolic link",
        "symbolic link",
        "symbolic link",
        "directory",
        "special file",
    ]) {
        assert!(file.reason.contains(words), "{file:?}");
    }
    for id in &ids {
        let error = pod.read_entry(*id).expect_err("no entry");
        assert_eq!(error.code, ErrorCode::WrongFileType, "{error}");
        assert!(error.message.contains(&id.file_name()), "{error}");
    }
    assert_eq!(read_all(&mut snapshot), (vec![good], vec![]));
    assert_eq!(names(&workspace.staging()).len(), 6, "all of them are still there");
}

#[test]
fn json_files_with_other_names_are_named_and_left() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let text = id.to_string();
    let odd = [
        format!("{}.json", text.to_uppercase()),
        format!("{{{text}}}.json"),
        format!("urn:uuid:{text}.json"),
        format!("{}.json", text.replace('-', "")),
        format!("{text} (conflicted copy).json"),
        "9b2f6d1e-2b3c-4def-8123-456789abcdef.json".into(),
        "00000000-0000-0000-0000-000000000000.json".into(),
        "ffffffff-ffff-ffff-ffff-ffffffffffff.json".into(),
        "notes.json".into(),
        "caf\u{e9}.json".into(),
    ];
    for name in &odd {
        workspace.put(name, MINIMAL);
    }
    let before = workspace.visible();
    let pod = open(&workspace);
    let summary = pod.check_entries().expect("a summary");
    assert_eq!(summary.entries, 1);
    let mut expected = odd.to_vec();
    expected.sort_unstable();
    let named: Vec<&String> = summary.unusable.iter().map(|file| &file.name).collect();
    assert_eq!(named, expected.iter().collect::<Vec<_>>(), "by name");
    assert_eq!(pod.entry_ids().expect("listed"), [id]);
    assert_eq!(workspace.visible(), before);
}

#[test]
fn hidden_files_and_editors_copies_are_nobodys_business() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let odd = [
        format!("._{id}.json"),
        format!(".{id}.json"),
        format!(".{id}.json.swp"),
        id.temporary_name(),
        format!("{id}.json~"),
        format!("{id}.json.tmp"),
        format!("#{id}.json#"),
        format!("{id}.JSON"),
        id.to_string(),
        ".DS_Store".into(),
        ".nfs0000abcd".into(),
        ".fuse_hidden1".into(),
        "Thumbs.db".into(),
        "README".into(),
    ];
    for name in &odd {
        workspace.put(name, "not ours");
    }
    fs::create_dir(workspace.staged("quarantine")).expect("a directory");
    workspace.put(&format!("quarantine/{id}.json"), "not ours");
    let pod = open(&workspace);
    let summary = pod.check_entries().expect("a summary");
    assert_eq!((summary.entries, summary.unusable_count), (1, 0), "{summary:?}");
    let (mut held, _) = pod.acquire(&Default::default()).expect("held");
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!(read_all(&mut snapshot), (vec![id], vec![]));
    pod.record_consumed(&mut held, snapshot.ids().to_vec()).expect("recorded");
    held.release_with_cleanup().expect("released");
    for name in &odd {
        assert_eq!(fs::read_to_string(workspace.staged(name)).expect(name), "not ours");
    }
    assert_eq!(names(&workspace.staged("quarantine")).len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_counted_and_left() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    for name in [&b"\xff\xfe.json"[..], b"caf\xe9.json", b"0196f0e1-2b3c-7def-8123-456789abcde\xe9.json"] {
        fs::write(workspace.staging().join(OsStr::from_bytes(name)), MINIMAL).expect("a file");
    }
    let pod = open(&workspace);
    let summary = pod.check_entries().expect("a summary");
    assert_eq!((summary.entries, summary.unusable_count), (1, 3));
    assert!(summary.unusable.iter().all(|file| file.name == "?" && file.reason.contains("UTF-8")));
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!(snapshot.unusable().len(), 3);
    assert_eq!(read_all(&mut snapshot), (vec![id], vec![]));
    assert_eq!(names(&workspace.staging()).len(), 4);
}

#[test]
fn unusable_content_is_named_with_its_reason() {
    let over = usize::try_from(MAX_ENTRY_BYTES).expect("fits") + 1;
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", Vec::new(), "empty"),
        ("zeros", vec![0; 812], "NUL"),
        ("torn", MINIMAL.as_bytes()[..20].to_vec(), "does not end"),
        ("huge", vec![b' '; over], "1048576"),
        ("utf16", MINIMAL.encode_utf16().flat_map(u16::to_le_bytes).collect(), ""),
        ("latin1", b"{\"\xe9\":1}".to_vec(), "UTF-8"),
        ("schema", b"{}".to_vec(), "source"),
        (
            "surrogate",
            format!("{},\"x\":\"\\ud800\"}}", &MINIMAL[..MINIMAL.len() - 1]).into_bytes(),
            "surrogate",
        ),
    ];
    for (what, content, words) in cases {
        let workspace = TestWorkspace::with_staging();
        let good = workspace.put_entry();
        let bad = new_entry_id();
        workspace.put(&bad.file_name(), &content);
        let pod = open(&workspace);
        let summary = pod.check_entries().expect("a summary");
        let (name, reason) = only_unusable(&summary);
        assert_eq!(name, bad.file_name());
        assert!(reason.contains(words), "{what}: {reason}");
        let error = pod.read_entry(bad).expect_err(what);
        assert_eq!(error.code, ErrorCode::Unusable, "{error}");
        assert!(error.message.contains(&bad.file_name()) && error.message.contains(words), "{error}");
        let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
        assert_eq!(snapshot.ids(), [good, bad], "by name and type it is one");
        assert_eq!(read_all(&mut snapshot), (vec![good], vec![bad.file_name()]));
        assert_eq!(snapshot.ids(), [good], "and now it is not");
        assert_eq!(fs::read(workspace.staged(&bad.file_name())).expect("left"), content);
    }
}

#[test]
fn entry_of_exactly_the_largest_size_is_read() {
    let workspace = TestWorkspace::with_staging();
    let limit = usize::try_from(MAX_ENTRY_BYTES).expect("fits");
    let id = new_entry_id();
    workspace.put(&id.file_name(), format!("{MINIMAL}{}", " ".repeat(limit - MINIMAL.len())));
    assert_eq!(open(&workspace).read_entry(id).expect("an entry").bytes, MAX_ENTRY_BYTES);
}

#[test]
fn file_that_cannot_be_read_does_not_stand_in_the_way_of_others() {
    for kind in ALL_KINDS {
        for op in [Op::Open, Op::Read] {
            let workspace = TestWorkspace::with_staging();
            let ids = [workspace.put_entry(), workspace.put_entry(), workspace.put_entry()];
            let bad = format!("_staging/{}", ids[1].file_name());
            // Once only, if the call is repeated by right.
            let mut left = if kind == FsErrorKind::Interrupted { 1 } else { usize::MAX };
            let faults = Faults::by(move |_, call| {
                if call.op == op && call.path == bad && left > 0 {
                    left -= 1;
                    return Fault::Refuse(kind);
                }
                Fault::Pass
            });
            let pod = workspace.open_faulty(&World::new().start(1), &faults);
            let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
            let (read, unusable) = read_all(&mut snapshot);
            assert_eq!(snapshot.ids(), read);
            if (kind, op) == (FsErrorKind::Interrupted, Op::Read) {
                assert_eq!(read, ids);
                continue;
            }
            assert_eq!(read, [ids[0], ids[2]], "{op:?} {kind:?}");
            let gone = kind == FsErrorKind::NotFound;
            let expected = if gone { vec![] } else { vec![ids[1].file_name()] };
            assert_eq!(unusable, expected, "{op:?} {kind:?}");
        }
    }
}

#[test]
fn short_reads_are_no_end_of_the_file() {
    let workspace = TestWorkspace::with_staging();
    let id = workspace.put_entry();
    let pod = workspace.open_faulty(&World::new().start(1), &Faults::of(Op::Read, Fault::Short(1)));
    assert_eq!(pod.read_entry(id).expect("an entry").bytes, MINIMAL.len() as u64);
}

#[test]
fn listing_that_fails_is_never_taken_for_a_whole_one() {
    for kind in ALL_KINDS {
        for fault in [Fault::Refuse(kind), Fault::After(kind)] {
            let workspace = TestWorkspace::with_staging();
            workspace.put_entry();
            let pod = workspace.open_faulty(&World::new().start(1), &Faults::of(Op::List, fault));
            pod.entry_ids().expect_err("no listing");
            pod.check_entries().expect_err("no listing");
            pod.take_snapshot(Limits::default()).expect_err("no listing");
        }
    }
}

#[test]
fn summary_counts_bytes_and_finds_the_oldest_usable_entry() {
    let workspace = TestWorkspace::with_staging();
    workspace.put(&entry_id(1_000, 1).file_name(), "no entry");
    workspace.put(&entry_id(3_000, 1).file_name(), MINIMAL);
    workspace.put(&entry_id(2_000, 1).file_name(), format!("{MINIMAL}\n"));
    // The age is that of the id: copying a workspace changes the times of its files.
    set_age(&workspace.staged(&entry_id(3_000, 1).file_name()), 1_000_000);
    let summary = open(&workspace).check_entries().expect("a summary");
    assert_eq!((summary.entries, summary.bytes), (2, Some(2 * MINIMAL.len() as u64 + 1)));
    assert_eq!(summary.oldest_ms, Some(2_000));
    assert_eq!(only_unusable(&summary).0, entry_id(1_000, 1).file_name());
}

#[test]
fn summary_names_a_thousand_unusable_files_and_counts_all() {
    let workspace = TestWorkspace::with_staging();
    for number in 0..MAX_NAMED_UNUSABLE + 5 {
        workspace.put(&format!("{number:05}.json"), "");
    }
    let summary = open(&workspace).check_entries().expect("a summary");
    assert_eq!(summary.unusable_count, MAX_NAMED_UNUSABLE as u64 + 5);
    assert_eq!(summary.unusable.len(), MAX_NAMED_UNUSABLE);
    assert_eq!(summary.unusable[0].name, "00000.json");
    assert!(summary.unusable.is_sorted());
}

#[test]
fn five_thousand_entries_are_counted_and_read_exactly() {
    let workspace = TestWorkspace::with_staging();
    let pod = open(&workspace);
    let ids = pod.stage(&payloads(5_000), None, Durability::None).expect("staged");
    assert_eq!(pod.entry_ids().expect("listed"), ids);
    assert_eq!(pod.check_entries().expect("a summary").entries, 5_000);
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!((snapshot.ids(), snapshot.left()), (&ids[..], 0));
    let (read, unusable) = read_all(&mut snapshot);
    assert_eq!((read, unusable.len()), (ids.clone(), 0));
    let (mut held, _) = pod.acquire(&Default::default()).expect("held");
    pod.record_consumed(&mut held, snapshot.ids().to_vec()).expect("recorded");
    let report = held.release_with_cleanup().expect("released");
    assert_eq!((report.removed, report.missing, report.failed.len()), (5_000, 0, 0));
    assert_eq!(workspace.visible().len(), 0);
}

#[test]
fn listings_around_the_size_of_a_buffer_are_exact() {
    for count in [0, 1, 149, 150, 151, 500, 585, 586] {
        let workspace = TestWorkspace::with_staging();
        for number in 0..count {
            workspace.put(&entry_id(1_000, number).file_name(), MINIMAL);
        }
        assert_eq!(open(&workspace).entry_ids().expect("listed").len() as u64, count);
    }
}

#[test]
fn cap_on_entries_takes_the_oldest_and_counts_the_rest() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..5).map(|_| workspace.put_entry()).collect();
    let pod = open(&workspace);
    for (cap, taken) in [(0, 0), (1, 1), (4, 4), (5, 5), (6, 5), (u64::MAX, 5)] {
        let limits = Limits { max_entries: Some(cap), max_bytes: None };
        let snapshot = pod.take_snapshot(limits).expect("a snapshot");
        assert_eq!((snapshot.ids(), snapshot.left()), (&ids[..taken], 5 - taken as u64), "{cap}");
    }
}

#[test]
fn cap_on_bytes_takes_what_fits_and_always_the_first() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..4).map(|_| workspace.put_entry()).collect();
    let size = MINIMAL.len() as u64;
    let pod = open(&workspace);
    for (cap, taken) in [
        (0, 1),
        (size - 1, 1),
        (size, 1),
        (2 * size - 1, 1),
        (2 * size, 2),
        (4 * size - 1, 3),
        (4 * size, 4),
        (u64::MAX, 4),
    ] {
        let limits = Limits { max_entries: None, max_bytes: Some(cap) };
        let snapshot = pod.take_snapshot(limits).expect("a snapshot");
        assert_eq!((snapshot.ids(), snapshot.left()), (&ids[..taken], 4 - taken as u64), "{cap}");
    }
    let both = Limits { max_entries: Some(2), max_bytes: Some(3 * size) };
    assert_eq!(pod.take_snapshot(both).expect("a snapshot").ids(), &ids[..2]);
    let both = Limits { max_entries: Some(3), max_bytes: Some(2 * size) };
    assert_eq!(pod.take_snapshot(both).expect("a snapshot").ids(), &ids[..2]);
    let none = Limits { max_entries: Some(0), max_bytes: Some(size) };
    assert_eq!(pod.take_snapshot(none).expect("a snapshot").ids(), []);
}

#[test]
fn first_entry_larger_than_the_cap_goes_alone() {
    let workspace = TestWorkspace::with_staging();
    let large = new_entry_id();
    workspace.put(&large.file_name(), format!("{MINIMAL}{}", " ".repeat(5_000)));
    let small = workspace.put_entry();
    let limits = Limits { max_entries: None, max_bytes: Some(1_000) };
    let snapshot = open(&workspace).take_snapshot(limits).expect("a snapshot");
    assert_eq!((snapshot.ids(), snapshot.left()), (&[large][..], 1));
    assert!(large < small);
}

#[test]
fn skipped_entries_count_for_no_cap_and_not_as_left() {
    let workspace = TestWorkspace::with_staging();
    let bad = new_entry_id();
    workspace.put(&bad.file_name(), "no entry inside");
    let ids: Vec<EntryId> = (0..6).map(|_| workspace.put_entry()).collect();
    let pod = open(&workspace);
    // In no order, twice, and with one that is not there.
    let skip = [ids[4], ids[0], new_entry_id(), ids[4], bad];
    let all = pod.take_snapshot_without(Limits::default(), &skip).expect("a snapshot");
    assert_eq!((all.ids(), all.left()), (&[ids[1], ids[2], ids[3], ids[5]][..], 0));
    let capped = Limits { max_entries: Some(2), max_bytes: None };
    let snapshot = pod.take_snapshot_without(capped, &skip).expect("a snapshot");
    assert_eq!((snapshot.ids(), snapshot.left()), (&ids[1..3], 2));
    assert_eq!(snapshot.unusable(), [], "nobody read it");
    let capped = Limits { max_entries: None, max_bytes: Some(3 * MINIMAL.len() as u64) };
    let snapshot = pod.take_snapshot_without(capped, &skip).expect("a snapshot");
    assert_eq!((snapshot.ids(), snapshot.left()), (&ids[1..4], 1));
    let none = pod.take_snapshot_without(capped, &[&ids[..], &[bad]].concat()).expect("a snapshot");
    assert_eq!((none.ids().len(), none.left()), (0, 0));
}

#[test]
fn kept_entries_leave_the_part_that_was_read_and_nothing_else() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..8).map(|_| workspace.put_entry()).collect();
    let mut snapshot = open(&workspace).take_snapshot(Limits::default()).expect("a snapshot");
    snapshot.keep(&ids);
    assert_eq!((snapshot.ids(), snapshot.read_ids().len()), (&ids[..], 0), "nothing was read");
    assert_eq!(snapshot.next_batch(5, u64::MAX).entries.len(), 5);
    snapshot.keep(&[]);
    assert_eq!((snapshot.ids(), snapshot.read_ids()), (&ids[..], &ids[..5]));
    // In no order, twice, one that was not read and one that is not in it.
    snapshot.keep(&[ids[3], ids[0], ids[6], new_entry_id(), ids[3]]);
    let read = [ids[1], ids[2], ids[4]];
    assert_eq!((snapshot.ids(), snapshot.read_ids()), (&[&read, &ids[5..]].concat()[..], &read[..]));
    snapshot.keep(&[ids[3]]);
    assert_eq!(snapshot.read_ids(), read, "it is kept already");
    let (rest, unusable) = read_all(&mut snapshot);
    assert_eq!((&rest[..], unusable), (&ids[5..], Vec::new()), "it reads on where it was");
    assert_eq!(snapshot.read_ids(), [&read, &ids[5..]].concat());
    snapshot.keep(&ids);
    assert_eq!((snapshot.ids(), snapshot.read_ids()), (&[][..], &[][..]));
    assert!(snapshot.next_batch(1, 1).done);
}

#[test]
fn kept_entries_among_files_that_dropped_out_leave_the_right_rest() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..6).map(|_| workspace.put_entry()).collect();
    let mut snapshot = open(&workspace).take_snapshot(Limits::default()).expect("a snapshot");
    fs::remove_file(workspace.staged(&ids[0].file_name())).expect("removed");
    workspace.put(&ids[2].file_name(), "bad by now");
    assert_eq!(snapshot.next_batch(3, u64::MAX).entries.len(), 3);
    assert_eq!(snapshot.read_ids(), [ids[1], ids[3], ids[4]]);
    snapshot.keep(&[ids[0], ids[2], ids[3], ids[5]]);
    assert_eq!((snapshot.ids(), snapshot.read_ids()), (&[ids[1], ids[4], ids[5]][..], &[ids[1], ids[4]][..]));
}

#[test]
fn run_consumes_nothing_that_it_keeps() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..4).map(|_| workspace.put_entry()).collect();
    let pod = open(&workspace);
    let (mut held, _) = pod.acquire(&Default::default()).expect("held");
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    pod.record_snapshot(&mut held, &mut snapshot).expect("recorded");
    read_all(&mut snapshot);
    snapshot.keep(&[ids[1]]);
    pod.record_snapshot(&mut held, &mut snapshot).expect("recorded");
    assert_eq!(workspace.lock_record().consumed_ids, vec![ids[0], ids[2], ids[3]].into());
    assert_eq!(held.release_with_cleanup().expect("released").removed, 3);
    assert_eq!(pod.entry_ids().expect("listed"), [ids[1]]);
}

/// What a run with this cap reads, as long as every run gets on.
fn drained_by_runs(workspace: &TestWorkspace, limits: Limits) -> Vec<EntryId> {
    let pod = open(workspace);
    let mut consumed = Vec::new();
    loop {
        let (mut held, _) = pod.acquire(&Default::default()).expect("held");
        let mut snapshot = pod.take_snapshot(limits).expect("a snapshot");
        let (ids, _) = read_all(&mut snapshot);
        pod.record_consumed(&mut held, snapshot.ids().to_vec()).expect("recorded");
        held.release_with_cleanup().expect("released");
        if ids.is_empty() {
            return consumed;
        }
        consumed.extend(ids);
    }
}

#[test]
fn unusable_files_at_the_head_do_not_starve_entries_behind_a_cap() {
    for limits in [
        Limits { max_entries: Some(2), max_bytes: None },
        Limits { max_entries: None, max_bytes: Some(2 * MINIMAL.len() as u64) },
    ] {
        let workspace = TestWorkspace::with_staging();
        workspace.put(&new_entry_id().file_name(), "no entry, and nobody mends it".repeat(10));
        workspace.put(&new_entry_id().file_name(), "no entry, and nobody mends it".repeat(10));
        let good = [workspace.put_entry(), workspace.put_entry(), workspace.put_entry()];
        assert_eq!(drained_by_runs(&workspace, limits), good, "{limits:?}");
        assert_eq!(workspace.visible().len(), 2, "the unusable ones are left");
    }
}

/// What one run after another reads of one listing, with these caps, until nothing comes any more.
fn read_by_runs(snapshot: &mut Snapshot<NativeDir>, limits: Limits) -> Vec<EntryId> {
    let mut all = Vec::new();
    loop {
        let mut run = Vec::new();
        loop {
            snapshot.fill().expect("listed");
            let batch = snapshot.next_batch(3, u64::MAX);
            run.extend(batch.entries.iter().map(|entry| entry.id));
            if batch.done {
                break;
            }
        }
        assert_eq!(snapshot.ids(), run, "it names what it has read, and nothing is left to read");
        assert_eq!(snapshot.read_ids(), run);
        if run.is_empty() {
            assert_eq!(snapshot.left(), 0);
            return all;
        }
        all.extend(run);
        snapshot.advance(limits, false).expect("listed");
    }
}

#[test]
fn snapshot_that_holds_few_ids_lists_again_and_gives_every_entry_once() {
    let workspace = TestWorkspace::with_staging();
    // In no order in the directory, and usable or not in no order.
    let mut good = Vec::new();
    for number in 0..900u64 {
        let id = entry_id(1_000 + number * 7_919 % 900, number);
        let is_good = number % 3 != 1;
        workspace.put(&id.file_name(), if is_good { MINIMAL } else { "no entry" });
        good.extend(is_good.then_some(id));
    }
    good.sort_unstable();
    let skip = [good[0], good[100], good[599]];
    let pod = open(&workspace);
    let size = MINIMAL.len() as u64;
    for (limits, least) in [
        (Limits { max_entries: None, max_bytes: Some(7 * size) }, 4),
        (Limits { max_entries: None, max_bytes: Some(0) }, 1),
        (Limits { max_entries: Some(20), max_bytes: None }, 1),
        (Limits { max_entries: Some(20), max_bytes: Some(11 * size + 1) }, 64),
    ] {
        let mut snapshot = pod.take_snapshot_holding(limits, &skip, least).expect("a snapshot");
        assert_eq!(snapshot.ids().len() as u64 + snapshot.left(), 897);
        // Newer than anything that was there: not part of it, whenever it lists again.
        let later = entry_id(5_000, 1);
        workspace.put(&later.file_name(), MINIMAL);
        let read = read_by_runs(&mut snapshot, limits);
        fs::remove_file(workspace.staged(&later.file_name())).expect("removed");
        let expected: Vec<EntryId> = good.iter().copied().filter(|id| !skip.contains(id)).collect();
        assert_eq!(read, expected, "{limits:?}");
    }
}

#[test]
fn entries_that_are_put_back_are_read_once_more() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..6).map(|_| workspace.put_entry()).collect();
    let mut snapshot = open(&workspace).take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!(snapshot.next_batch(5, u64::MAX).entries.len(), 5);
    snapshot.keep(&[ids[1]]);
    snapshot.put_back(2);
    assert_eq!((snapshot.read_ids(), snapshot.ids().len()), (&[ids[0], ids[2]][..], 5));
    snapshot.advance(Limits { max_entries: Some(2), max_bytes: None }, false).expect("it goes on");
    assert_eq!((snapshot.ids(), snapshot.left()), (&ids[3..5], 1));
    let (read, _) = read_all(&mut snapshot);
    assert_eq!(read, ids[3..5]);
    snapshot.put_back(usize::MAX);
    assert_eq!((snapshot.read_ids().len(), snapshot.ids()), (0, &ids[3..5]));
}

#[test]
fn caps_that_go_on_take_no_first_entry_that_exceeds_them() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..3).map(|_| workspace.put_entry()).collect();
    let limits = Limits { max_entries: None, max_bytes: Some(MINIMAL.len() as u64 - 1) };
    let mut snapshot = open(&workspace).take_snapshot(limits).expect("a snapshot");
    assert_eq!(read_all(&mut snapshot).0, ids[..1], "the first goes alone");
    snapshot.advance(limits, true).expect("it goes on");
    assert!(snapshot.next_batch(1, 1).done);
    assert_eq!((snapshot.ids().len(), snapshot.left()), (0, 2));
    snapshot.advance(limits, false).expect("it goes on");
    assert_eq!(read_all(&mut snapshot).0, ids[1..2]);
}

#[test]
fn batches_keep_to_their_caps_and_hold_one_entry_at_least() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..5).map(|_| workspace.put_entry()).collect();
    let pod = open(&workspace);
    for (max_entries, max_bytes, sizes) in [
        (2, u64::MAX, &[2, 2, 1][..]),
        (5, u64::MAX, &[5]),
        (100, u64::MAX, &[5]),
        (0, u64::MAX, &[1, 1, 1, 1, 1]),
        (100, 0, &[1, 1, 1, 1, 1]),
        (100, 1, &[1, 1, 1, 1, 1]),
    ] {
        let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
        let mut read = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let batch = snapshot.next_batch(max_entries, max_bytes);
            assert_eq!(batch.entries.len(), *size, "{max_entries} {max_bytes}");
            assert_eq!(batch.done, index + 1 == sizes.len());
            read.extend(batch.entries.iter().map(|entry| entry.id));
        }
        assert_eq!(read, ids);
        let after = snapshot.next_batch(max_entries, max_bytes);
        assert!(after.done && after.entries.is_empty());
        assert_eq!(snapshot.ids(), ids);
    }
}

#[test]
fn entries_that_vanish_or_turn_bad_after_the_snapshot_drop_out_of_it() {
    let workspace = TestWorkspace::with_staging();
    let ids: Vec<EntryId> = (0..9).map(|_| workspace.put_entry()).collect();
    let pod = open(&workspace);
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    let path = |index: usize| workspace.staged(&ids[index].file_name());
    let first = snapshot.next_batch(1, u64::MAX);
    assert_eq!(first.entries[0].id, ids[0]);
    // What was handed out stays in the snapshot, whatever becomes of it.
    fs::remove_file(path(0)).expect("removed");
    fs::remove_file(path(1)).expect("removed");
    fs::write(path(2), "").expect("emptied");
    fs::remove_file(path(4)).expect("removed");
    fs::create_dir(path(4)).expect("a directory");
    fs::remove_file(path(6)).expect("removed");
    link("../victim.json", &path(6));
    fs::remove_file(path(8)).expect("removed");
    let batch = snapshot.next_batch(2, u64::MAX);
    assert_eq!(batch.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [ids[3], ids[5]]);
    let names: Vec<String> = batch.unusable.iter().map(|file| file.name.clone()).collect();
    assert_eq!(names, [ids[2].file_name(), ids[4].file_name()]);
    assert!(!batch.done);
    let batch = snapshot.next_batch(100, u64::MAX);
    assert_eq!(batch.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [ids[7]]);
    assert_eq!(batch.unusable[0].name, ids[6].file_name());
    assert!(batch.done);
    assert_eq!(snapshot.ids(), [ids[0], ids[3], ids[5], ids[7]]);
}

#[test]
fn snapshot_that_vanished_as_a_whole_is_empty_and_done() {
    let workspace = TestWorkspace::with_staging();
    for _ in 0..5 {
        workspace.put_entry();
    }
    let mut snapshot = open(&workspace).take_snapshot(Limits::default()).expect("a snapshot");
    fs::remove_dir_all(workspace.staging()).expect("removed");
    let batch = snapshot.next_batch(2, u64::MAX);
    assert!(batch.done && batch.entries.is_empty() && batch.unusable.is_empty());
    assert_eq!(snapshot.ids(), []);
}

#[cfg(unix)]
#[test]
fn entry_that_becomes_a_pipe_after_the_snapshot_does_not_stop_the_run() {
    let workspace = TestWorkspace::with_staging();
    let ids = [workspace.put_entry(), workspace.put_entry()];
    let mut snapshot = open(&workspace).take_snapshot(Limits::default()).expect("a snapshot");
    let path = workspace.staged(&ids[0].file_name());
    fs::remove_file(&path).expect("removed");
    crate::support::make_fifo(&path);
    let (read, unusable) = crate::support::without_waiting_at(&path, move || read_all(&mut snapshot));
    assert_eq!((read, unusable), (vec![ids[1]], vec![ids[0].file_name()]));
}

#[test]
fn later_arrivals_are_not_in_the_snapshot() {
    let workspace = TestWorkspace::with_staging();
    let ids = vec![workspace.put_entry(), workspace.put_entry()];
    let pod = open(&workspace);
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    let later = workspace.put_entry();
    // An entry of a pod whose clock is behind sorts before those that are in it.
    let behind = entry_id(1_000, 1);
    workspace.put(&behind.file_name(), MINIMAL);
    assert_eq!(read_all(&mut snapshot).0, ids);
    let (mut held, _) = pod.acquire(&Default::default()).expect("held");
    pod.record_consumed(&mut held, snapshot.ids().to_vec()).expect("recorded");
    workspace.put(&entry_id(2_000, 1).file_name(), MINIMAL);
    assert_eq!(held.release_with_cleanup().expect("released").removed, 2);
    assert_eq!(pod.entry_ids().expect("listed"), [behind, entry_id(2_000, 1), later]);
}

#[test]
fn half_written_entry_is_left_alone_and_read_once_it_is_whole() {
    let workspace = TestWorkspace::with_staging();
    let id = new_entry_id();
    workspace.put(&id.file_name(), &MINIMAL[..10]);
    let pod = open(&workspace);
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!(read_all(&mut snapshot), (vec![], vec![id.file_name()]));
    let (mut held, _) = pod.acquire(&Default::default()).expect("held");
    pod.record_consumed(&mut held, snapshot.ids().to_vec()).expect("recorded");
    held.release_with_cleanup().expect("released");
    workspace.put(&id.file_name(), MINIMAL);
    let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
    assert_eq!(read_all(&mut snapshot), (vec![id], vec![]));
}

#[test]
fn entries_made_by_others_while_we_list_are_whole_or_not_there() {
    let workspace = TestWorkspace::with_staging();
    std::thread::scope(|threads| {
        for pid in 1..=3 {
            let workspace = &workspace;
            threads.spawn(move || {
                let pod = workspace.open(&World::new().start(pid));
                for _ in 0..40 {
                    pod.stage(&payloads(5), None, Durability::None).expect("staged");
                }
            });
        }
        let pod = open(&workspace);
        loop {
            let summary = pod.check_entries().expect("a summary");
            assert_eq!(summary.unusable_count, 0, "{summary:?}");
            if summary.entries == 600 {
                break;
            }
        }
    });
}

/// What staging so many payloads leaves when a call fails, against what it reports: one is written and named by one
/// call.
fn stage_with(
    many: usize,
    fault_of: impl Fn(usize) -> Fault,
    check: impl Fn(&Call, &TestWorkspace, &[EntryId], bool),
) {
    let count = {
        let faults = Faults::none();
        let workspace = TestWorkspace::new();
        let pod = workspace.open_faulty(&World::new().start(1), &faults);
        pod.stage(&payloads(many), None, Durability::Full).expect("staged");
        faults.calls().len()
    };
    for number in 0..count {
        let faults = Faults::nth(number, fault_of(number));
        let workspace = TestWorkspace::new();
        let pod = workspace.open_faulty(&World::new().start(1), &faults);
        let result = pod.stage(&payloads(many), None, Durability::Full);
        let call = faults.calls()[number].clone();
        let (staged, ok) = match result {
            Ok(ids) => {
                assert_eq!(ids.len(), many, "{call:?}");
                (ids, true)
            }
            Err(error) => {
                assert!(!error.message.is_empty());
                assert!(error.path.is_some(), "{call:?}: {error}");
                (error.into_failure().staged, false)
            }
        };
        for (name, content) in workspace.visible() {
            to_line(&content, entry_id(1, 1)).unwrap_or_else(|reason| panic!("{call:?}: {name}: {reason}"));
        }
        for id in &staged {
            assert!(workspace.staged(&id.file_name()).is_file(), "{call:?}: {id} was reported and is lost");
        }
        check(&call, &workspace, &staged, ok);
        // Nothing stands in the way of the next attempt.
        let next = open(&workspace).stage(&payloads(2), None, Durability::Full).expect("staged");
        let listed = open(&workspace).entry_ids().expect("listed");
        assert!(next.iter().all(|id| listed.contains(id)), "{call:?}");
    }
}

#[test]
fn whatever_fails_while_staging_what_is_reported_is_what_is_there() {
    for (kind, many) in ALL_KINDS.into_iter().flat_map(|kind| [(kind, 1), (kind, 3)]) {
        stage_with(
            many,
            |_| Fault::Refuse(kind),
            |call, workspace, staged, _| {
                let there: Vec<String> = workspace.visible().into_keys().collect();
                let reported: Vec<String> = staged.iter().map(|id| id.file_name()).collect();
                assert_eq!(there, reported, "{call:?} {kind:?}");
                assert_eq!(workspace.temporaries(), [] as [String; 0], "{call:?} {kind:?}");
            },
        );
    }
}

#[test]
fn whatever_answer_is_lost_while_staging_nothing_that_is_reported_is_lost() {
    for (kind, many) in ALL_KINDS.into_iter().flat_map(|kind| [(kind, 1), (kind, 3)]) {
        stage_with(
            many,
            |_| Fault::After(kind),
            |call, workspace, staged, ok| {
                let there = workspace.visible().len();
                assert!(there >= staged.len(), "{call:?} {kind:?}");
                assert!(!ok || there == many, "{call:?} {kind:?}");
            },
        );
    }
}

#[test]
fn what_is_reported_as_staged_after_a_failure_is_durable() {
    // The second of three names can't be given.
    let mut renames = 0;
    let faults = Faults::by(move |_, call| {
        renames += usize::from(call.op == Op::Rename);
        if call.op == Op::Rename && renames == 2 { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass }
    });
    let workspace = TestWorkspace::with_staging();
    let pod = workspace.open_faulty(&World::new().start(1), &faults);
    let error = pod.stage(&payloads(3), None, Durability::Full).expect_err("a failure");
    assert_eq!((error.staged.len(), error.index), (1, Some(1)));
    let changes = faults.changes();
    let named = changes.iter().position(|change| change.starts_with("Rename")).expect("one is named");
    assert!(changes[named..].iter().any(|change| change == "SyncNames _staging"), "{changes:?}");
}

#[test]
fn process_killed_at_any_step_of_staging_leaves_whole_entries_only() {
    for many in [1, 3] {
        let staged = (0..40).find(|number| {
            let faults = Faults::killed_before(*number);
            let workspace = TestWorkspace::new();
            let pod = workspace.open_faulty(&World::new().start(1), &faults);
            let result = pod.stage(&payloads(many), None, Durability::Full);
            let summary = open(&workspace).check_entries().expect("a summary");
            assert_eq!(summary.unusable_count, 0, "killed before {number}: {summary:?}");
            assert!(result.is_err() || summary.entries == many as u64);
            result.is_ok()
        });
        assert!(staged.is_some(), "staging takes more calls than were tried");
    }
}

#[test]
fn what_a_disk_or_a_limit_has_no_room_for_is_not_staged_and_the_remedy_is_named() {
    for (kind, code, remedy) in [
        (FsErrorKind::NoSpace, ErrorCode::NoSpace, "free some space"),
        (FsErrorKind::TooLarge, ErrorCode::NoSpace, "`ulimit -f`"),
        (FsErrorKind::Exhausted, ErrorCode::Io, "`ulimit -n`"),
    ] {
        let workspace = TestWorkspace::new();
        let mut writes = 0;
        let faults = Faults::by(move |_, call| {
            writes += usize::from(call.op == Op::Write);
            if call.op == Op::Write && writes == 3 { Fault::Refuse(kind) } else { Fault::Pass }
        });
        let pod = workspace.open_faulty(&World::new().start(1), &faults);
        let error = pod.stage(&payloads(3), None, Durability::Full).expect_err("no space");
        assert_eq!((error.code, error.index), (code, Some(2)));
        assert!(error.message.contains(remedy), "{error}");
        assert_eq!(error.staged, []);
        assert_eq!(names(&workspace.staging()), [] as [String; 0]);
    }
}

#[test]
fn read_only_workspace_is_listed_and_refuses_to_be_staged_into() {
    for kind in [FsErrorKind::ReadOnly, FsErrorKind::Access, FsErrorKind::NotPermitted] {
        let workspace = TestWorkspace::with_staging();
        let id = workspace.put_entry();
        let faults = Faults::by(move |_, call| {
            let writes = call.op.changes() || call.op == Op::OpenForUpdate;
            if writes { Fault::Refuse(kind) } else { Fault::Pass }
        });
        let pod = workspace.open_faulty(&World::new().start(1), &faults);
        assert_eq!(pod.entry_ids().expect("listed"), [id]);
        assert_eq!(pod.check_entries().expect("a summary").entries, 1);
        pod.read_entry(id).expect("an entry");
        let mut snapshot = pod.take_snapshot(Limits::default()).expect("a snapshot");
        assert_eq!(read_all(&mut snapshot).0, [id]);
        pod.lock_status().expect("a status");
        let code =
            if kind == FsErrorKind::ReadOnly { ErrorCode::ReadOnly } else { ErrorCode::PermissionDenied };
        assert_eq!(pod.stage(&[MINIMAL], None, Durability::Full).expect_err("refused").code, code);
        assert_eq!(pod.acquire(&Default::default()).expect_err("refused").code, code);
    }
}
