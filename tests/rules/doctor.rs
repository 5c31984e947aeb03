//! What is left over in a workspace: named, changed by nobody who only looks, and removed by who holds the
//! lock.

use crate::support::faulty::{Fault, Faults, FaultyDir, Op};
use crate::support::system::{TestSystem, World, scope, wall_clock};
use crate::support::{TestWorkspace, entry_id, names, new_entry_id, original_record, set_age};
use consolidation_guest::doctor::{Finding, FindingKind};
use consolidation_guest::error::{ErrorCode, Owner};
use consolidation_guest::fs::FsErrorKind;
use consolidation_guest::layout::{ASIDE, EntryId, Progress, RUNS, UNFINISHED_PATH};
use consolidation_guest::lock::{AcquireOptions, Status};
use consolidation_guest::outcome::{Ending, Outcome};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

const OWN: u32 = 4242;
const OTHER: u32 = 77;

fn options() -> AcquireOptions {
    AcquireOptions { pod_name: "pod-a".into(), lease_seconds: Some(60), ..AcquireOptions::default() }
}

/// Kinds and paths of findings, in their order.
fn told(findings: &[Finding]) -> Vec<(FindingKind, &str)> {
    findings.iter().map(|finding| (finding.kind, finding.path.as_str())).collect()
}

/// Everything below a directory: paths, what they are, and for files the content and the time.
fn tree(workspace: &TestWorkspace) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![workspace.root().to_owned()];
    while let Some(directory) = open.pop() {
        for name in names(&directory) {
            let path = directory.join(name);
            let data = path.symlink_metadata().expect("it is there");
            if data.is_dir() {
                open.push(path.clone());
            }
            let content = data.is_file().then(|| fs::read(&path).ok());
            found.push(format!("{path:?} {:?} {:?} {content:?}", data.file_type(), data.modified().ok()));
        }
    }
    found
}

fn days_ago(days: u64) -> EntryId {
    entry_id(wall_clock().millis() - days * 86_400_000, 1)
}

fn outcome(run: EntryId, ids: &[EntryId]) -> Vec<u8> {
    Outcome::new(run, Ending::Consolidated, Owner::unknown(), wall_clock(), ids.to_vec()).to_file()
}

impl TestWorkspace {
    fn put_run(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::create_dir_all(self.root().join(UNFINISHED_PATH)).expect("a directory");
        let path = self.root().join(RUNS).join(name);
        fs::write(&path, content).expect("written");
        path
    }

    fn put_unfinished(&self, progress: Progress, run: EntryId, ids: &[EntryId]) -> String {
        let name = format!(".unfinished/{}", progress.name(run));
        self.put_run(&name, outcome(run, ids));
        format!("runs/{name}")
    }
}

#[test]
fn workspace_in_order_has_no_findings() {
    let workspace = TestWorkspace::new();
    let system = World::new().start(OWN);
    let pod = workspace.open(&system);
    assert_eq!(pod.examine().expect("examined"), []);
    assert_eq!(names(workspace.root()), [] as [String; 0], "who looks creates nothing");
    workspace.put_entry();
    let (mut held, _) = pod.acquire(&options()).expect("held");
    assert_eq!(pod.examine().expect("examined"), [], "a lock that is held is no finding");
    pod.record_consumed(&mut held, pod.entry_ids().expect("listed")).expect("recorded");
    held.release_with_cleanup().expect("released");
    assert_eq!(pod.examine().expect("examined"), []);
    assert_eq!(pod.mend(&options()).expect("mended"), []);
    workspace.assert_nothing_left();
}

/// One finding, which goes when it is mended.
#[track_caller]
fn is_found_and_removed(workspace: &TestWorkspace, world: &World, kind: FindingKind, path: &str) -> Finding {
    let pod = workspace.open(&world.start(OWN));
    let before = tree(workspace);
    let found = pod.examine().expect("examined");
    assert_eq!(told(&found), [(kind, path)]);
    assert!(found[0].mendable && !found[0].mended && !found[0].detail.is_empty(), "{found:?}");
    assert_eq!(pod.examine().expect("examined"), found);
    assert_eq!(tree(workspace), before, "who only looks changes nothing");
    let mended = pod.mend(&options()).expect("mended");
    assert_eq!(mended, [Finding { mended: true, ..found[0].clone() }]);
    assert_eq!(pod.examine().expect("examined"), []);
    workspace.assert_nothing_left();
    found[0].clone()
}

#[test]
fn stale_lock_is_found_and_removed() {
    let workspace = TestWorkspace::new();
    let id = workspace.put_entry();
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[&id.to_string()]));
    let found = is_found_and_removed(
        &workspace,
        &World::new(),
        FindingKind::StaleLock,
        "_staging/.consolidation.lock",
    );
    assert!(found.detail.contains("pod-b") && found.detail.contains("no process"), "{found:?}");
    assert!(workspace.staged(&id.file_name()).exists());
}

#[test]
fn unreadable_lock_is_found_and_removed() {
    let workspace = TestWorkspace::new();
    workspace.put(".consolidation.lock", "garbage");
    set_age(&workspace.lock(), 100);
    is_found_and_removed(
        &workspace,
        &World::new(),
        FindingKind::UnreadableLock,
        "_staging/.consolidation.lock",
    );
}

#[test]
fn lock_put_aside_is_found_and_removed() {
    let workspace = TestWorkspace::new();
    workspace.put_entry();
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
    fs::rename(workspace.lock(), workspace.staged(ASIDE)).expect("put aside");
    let pod = workspace.open(&World::new().start(OWN));
    let found = pod.examine().expect("examined");
    assert!(told(&found).contains(&(FindingKind::LockAside, "_staging/.consolidation.lock.q")), "{found:?}");
    let mended = pod.mend(&options()).expect("mended");
    assert!(mended.iter().all(|finding| finding.mended), "{mended:?}");
    assert!(!workspace.staged(ASIDE).exists());
    assert_eq!(pod.examine().expect("examined"), []);
}

#[test]
fn flag_of_a_dead_owner_is_found_and_removed() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    drop(workspace.open(&world.start(OTHER)).acquire(&options()).expect("held"));
    fs::remove_file(workspace.lock()).expect("removed");
    world.end(OTHER);
    let flag = format!("_staging/.owners/{}", workspace.owners()[0]);
    is_found_and_removed(&workspace, &world, FindingKind::DeadFlag, &flag);
}

#[test]
fn copy_of_a_flag_that_nobody_uses_is_found_and_removed() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    drop(workspace.open(&world.start(OTHER)).acquire(&options()).expect("held"));
    fs::remove_file(workspace.lock()).expect("removed");
    world.end(OTHER);
    let flag = workspace.owners()[0].clone();
    fs::rename(workspace.owner(&flag), workspace.owner(&format!("{flag}.pub"))).expect("renamed");
    is_found_and_removed(&workspace, &world, FindingKind::DeadFlag, &format!("_staging/.owners/{flag}.pub"));
}

#[test]
fn old_temporary_files_are_found_and_removed() {
    let workspace = TestWorkspace::with_staging();
    let name = days_ago(2).temporary_name();
    workspace.put(&name, "{\"half\":");
    set_age(&workspace.staged(&name), 2 * 86_400);
    is_found_and_removed(&workspace, &World::new(), FindingKind::Temporary, &format!("_staging/{name}"));

    let path = workspace.put_run(&name, "{\"half\":");
    set_age(&path, 2 * 86_400);
    is_found_and_removed(&workspace, &World::new(), FindingKind::Temporary, &format!("runs/{name}"));
}

#[test]
fn unfinished_runs_are_found_and_ended() {
    for progress in Progress::ALL {
        let workspace = TestWorkspace::new();
        let (taken, other) = (workspace.put_entry(), workspace.put_entry());
        let run = new_entry_id();
        let path = workspace.put_unfinished(progress, run, &[taken]);
        let found = is_found_and_removed(&workspace, &World::new(), FindingKind::UnfinishedRun, &path);
        let committed = progress == Progress::Committed;
        assert_eq!(found.detail.contains("committed, and"), committed, "{found:?}");
        assert_eq!(workspace.staged(&taken.file_name()).exists(), !committed, "{progress:?}");
        assert!(workspace.staged(&other.file_name()).exists());
        let ended =
            workspace.open(&World::new().start(OWN)).past_run(run).expect("read").expect("it is known");
        let ending = if committed { Ending::Consolidated } else { Ending::Aborted };
        assert_eq!((ended.outcome.outcome, ended.pending), (ending, false));
    }
}

#[test]
fn unfinished_run_is_found_also_where_something_else_stands_for_the_staging_directory() {
    let workspace = TestWorkspace::new();
    fs::write(workspace.staging(), "mine").expect("written");
    let run = workspace.put_unfinished(Progress::Open, new_entry_id(), &[]);
    let found = workspace.open(&World::new().start(OWN)).examine().expect("examined");
    assert_eq!(told(&found), [(FindingKind::UnfinishedRun, &*run), (FindingKind::Foreign, "_staging")]);
}

#[test]
fn old_outcome_is_found_and_removed() {
    let workspace = TestWorkspace::new();
    let name = days_ago(31).file_name();
    let path = workspace.put_run(&name, outcome(days_ago(31), &[]));
    set_age(&path, 31 * 86_400);
    workspace.put_run(&days_ago(29).file_name(), outcome(days_ago(29), &[]));
    is_found_and_removed(&workspace, &World::new(), FindingKind::OldOutcome, &format!("runs/{name}"));
    assert_eq!(workspace.open(&World::new().start(OWN)).past_runs(10).expect("listed").0.len(), 1);
}

impl TestWorkspace {
    fn put_note(&self, path: &str, content: impl AsRef<[u8]>) {
        let file = self.root().join(path);
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(file, content).expect("written");
    }
}

/// A record as a run writes it, with other lines in its front matter.
fn record(lines: &[&str]) -> String {
    let known = ["kind: note", "slug: a", "title: \"A\"", "status: active", "created: 2026-05-01T12:00:00Z"];
    let key = |line: &str| line.split(':').next().map(str::to_owned);
    let kept = known.iter().filter(|known| !lines.iter().any(|line| key(line) == key(known)));
    let front: Vec<&str> = kept.chain(lines).copied().collect();
    format!("---\n{}\n---\n\nBody\n", front.join("\n"))
}

#[test]
fn record_that_says_what_is_hardly_meant_is_found_and_left() {
    for (line, told) in [
        ("kind: decision", "line 6: `kind` says `decision`; the directory"),
        ("kind: [", "line 6: `kind` says `[`; the directory"),
        ("slug: b", "line 6: `slug` says `b`; the name"),
        ("title: [draft] a thing", "line 6: `title` says `[draft] a thing`; to those who read YAML"),
        ("title: {a: b}", "line 6: `title` says `{a: b}`; to those"),
        ("title: *a", "line 6: `title` says `*a`; to those"),
        ("status: Active", "line 6: `status` says `Active`; write `active`, `replaced` or `retired`"),
        ("status: replaced", "line 6: `status` says `replaced`; write `replaced_by: kind/slug` too"),
        ("created: yesterday", "line 6: `created` says `yesterday`; write a time as 20"),
        ("created: 2026-13-01", "line 6: `created` says `2026-13-01`; write a time as 20"),
        ("updated: 2026-05-01 12:00", "line 7: `updated` says `2026-05-01 12:00`; write a time"),
        ("replaced_by: note/other", "line 7: `replaced_by` says `note/other`; write `status: replaced` too"),
    ] {
        let workspace = TestWorkspace::new();
        workspace.put_note("memory/note/a.md", record(&[line]));
        let found = is_found_and_left(&workspace, FindingKind::DoubtfulRecord, "memory/note/a.md");
        assert!(found.detail.starts_with(told), "{found:?}");
        // It is read as it stands all the same.
        let pod = workspace.open(&World::new().start(OWN));
        pod.memory_record("note", "a").expect("read").expect("there");
        assert_eq!(pod.memory_records(None).expect("listed").records.len(), 1);
    }
}

#[test]
fn successor_that_is_none_is_found_and_left() {
    for (successor, told) in [
        ("a/b/c", "line 7: `replaced_by` says `a/b/c`; write a record's name"),
        ("note/gone", "line 7: `replaced_by` names no record that is there"),
        ("gone", "line 7: `replaced_by` names no record that is there"),
        ("note/a", "line 7: `replaced_by` names the record itself"),
    ] {
        let workspace = TestWorkspace::new();
        let lines = ["status: replaced", &format!("replaced_by: {successor}")];
        workspace.put_note("memory/note/a.md", record(&lines));
        let found = is_found_and_left(&workspace, FindingKind::DoubtfulRecord, "memory/note/a.md");
        assert!(found.detail.starts_with(told), "{found:?}");
    }
}

#[test]
fn record_with_little_or_unusual_front_matter_is_no_finding() {
    let texts = [
        record(&[]),
        record(&["status: retired", "updated: 2026-05-01"]),
        record(&["status: replaced", "replaced_by: other"]),
        record(&["status: 'replaced'", "replaced_by: \"note/other\" # so it is"]),
        record(&["kind:", "slug: ~", "title: ''", "status: \"\"", "created: null"]),
        record(&["title: '[draft] a thing'", "tags: [a, b]", "owner: *nobody"]),
        record(&["title: a [draft]: of a thing"]),
        record(&["created: 2026-05-01T12:00:00.5+02:00"]),
        "no front matter\n".into(),
        String::new(),
    ];
    for text in texts {
        let workspace = TestWorkspace::new();
        workspace.put_note("memory/note/a.md", &text);
        workspace.put_note("memory/note/other.md", "---\nkind: note\n---\n");
        let pod = workspace.open(&World::new().start(OWN));
        assert_eq!(pod.examine().expect("examined"), [], "{text}");
    }
}

#[test]
fn what_may_be_meant_for_records_and_has_no_name_of_one_is_foreign() {
    for (path, told) in [
        ("memory/top.md", "nobody sees a record outside"),
        ("memory/note/Use SQLite.md", "a slug is"),
        ("memory/note/bad_name.md", "a slug is"),
        ("memory/note/-a.MD", "a slug is"),
        ("memory/Note/a.md", "a kind is"),
        ("memory/note/deeper/a.md", "nobody sees records in a directory below"),
    ] {
        let workspace = TestWorkspace::new();
        workspace.put_note(path, record(&[]));
        let named = path.strip_suffix("/a.md").unwrap_or(path);
        let found = is_found_and_left(&workspace, FindingKind::Foreign, named);
        assert!(found.detail.starts_with(told), "{found:?}");
    }
    let workspace = TestWorkspace::new();
    for path in [
        ".git/x/config.md",
        "README.md",
        "note/README.md",
        "notes.txt",
        "note/a.png",
        "note/.a.md.swp",
        "note/a.md~",
    ] {
        workspace.put_note(&format!("memory/{path}"), "mine");
    }
    assert_eq!(workspace.open(&World::new().start(OWN)).examine().expect("examined"), []);
}

#[test]
fn notes_of_entries_that_are_gone_are_found_and_removed() {
    let (gone, aside) = (new_entry_id(), new_entry_id());
    for path in [
        format!("_staging/.attempts/{}", gone.file_name()),
        format!("_staging/.attempts/{}", aside.file_name()),
        format!("_staging/quarantine/{}", gone.reason_name()),
    ] {
        let workspace = TestWorkspace::new();
        let staged = workspace.put_entry();
        let kept = [
            format!("_staging/.attempts/{}", staged.file_name()),
            format!("_staging/quarantine/{}", aside.file_name()),
            format!("_staging/quarantine/{}", aside.reason_name()),
        ];
        for note in kept.iter().chain([&path]) {
            workspace.put_note(note, "{}");
        }
        is_found_and_removed(&workspace, &World::new(), FindingKind::OrphanNote, &path);
        assert!(!workspace.root().join(&path).exists());
        for note in kept {
            assert!(workspace.root().join(&note).exists(), "{note}");
        }
    }
}

#[test]
fn quarantined_entries_are_no_findings_with_a_reason_and_without() {
    let workspace = TestWorkspace::new();
    let (explained, lost) = (new_entry_id(), new_entry_id());
    workspace.put_note(&format!("_staging/quarantine/{}", explained.file_name()), "whatever it is");
    workspace.put_note(&format!("_staging/quarantine/{}", explained.reason_name()), "{}");
    workspace.put_note(&format!("_staging/quarantine/{}", lost.file_name()), "{}");
    let pod = workspace.open(&World::new().start(OWN));
    assert_eq!(pod.examine().expect("examined"), []);
    assert_eq!(pod.mend(&options()).expect("mended"), []);
    assert_eq!(names(&workspace.staged("quarantine")).len(), 3);
}

#[test]
fn notes_that_a_holder_is_at_work_on_are_no_findings() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let (held, _) = workspace.open(&world.start(OTHER)).acquire(&options()).expect("held");
    workspace.put_note(&format!("_staging/quarantine/{}", new_entry_id().reason_name()), "{}");
    workspace.put_note(&format!("_staging/.attempts/{}", new_entry_id().file_name()), "{}");
    let pod = workspace.open(&world.start(OWN));
    assert_eq!(pod.examine().expect("examined"), []);
    held.release_only(None).expect("released");
    assert_eq!(pod.examine().expect("examined").len(), 2);
}

/// Looks at a workspace while a healthy process does a whole run: it stands still before each of its calls in
/// turn, and goes on to its end, and ends, before each call of the look.
fn look_while_a_run_ends(
    look: impl Fn(&consolidation_guest::workspace::Workspace<FaultyDir, TestSystem>) -> Result<(), String>,
) {
    let mut looks = 0;
    for step in 0.. {
        let mut is_over = false;
        for call in (step % 2..).step_by(2) {
            let workspace = TestWorkspace::new();
            let world = World::new();
            let id = workspace.put_entry();
            workspace.put_note(&format!("_staging/.attempts/{}", id.file_name()), "{}");
            let (reached, at_step) = mpsc::channel();
            let (go_on, resumed) = mpsc::channel::<()>();
            let ended = reached.clone();
            let steps = Faults::by(move |index, _| {
                if index == step {
                    let _ = reached.send(false);
                    // Nobody sends where the look has ended first.
                    let _ = resumed.recv();
                }
                Fault::Pass
            });
            let pod = workspace.open_faulty(&world.start(OTHER), &steps);
            let runner = thread::spawn(move || {
                let (mut held, _) = pod.acquire(&options()).expect("held");
                pod.record_consumed(&mut held, pod.entry_ids().expect("listed")).expect("recorded");
                held.release_with_cleanup().expect("released");
                let _ = ended.send(true);
            });
            is_over = at_step.recv().expect("it reaches the step or its end");
            if is_over {
                runner.join().expect("the run");
                break;
            }
            let (other, met) = (world.clone(), Arc::new(AtomicBool::new(false)));
            let (go_on, was_met) = (Mutex::new(Some(go_on)), Arc::clone(&met));
            let end_it = move || {
                drop(go_on.lock().expect("no panic").take());
                assert!(at_step.recv().expect("its end"));
                other.end(OTHER);
            };
            let calls = Faults::by(move |index, _| {
                if index == call {
                    met.store(true, Ordering::Relaxed);
                    end_it();
                }
                Fault::Pass
            });
            let result = look(&workspace.open_faulty(&world.start(OWN), &calls));
            looks += 1;
            let was_met = was_met.load(Ordering::Relaxed);
            drop(calls);
            runner.join().expect("the run");
            if let Err(found) = result {
                panic!("stopped before step {step}, gone before call {call}: {found}");
            }
            if !was_met {
                break;
            }
        }
        if is_over {
            break;
        }
    }
    assert!(looks > 100, "{looks}");
}

#[test]
fn run_that_ends_while_it_is_looked_at_is_no_finding() {
    look_while_a_run_ends(|pod| match pod.examine().expect("examined") {
        found if found.is_empty() => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

#[test]
fn lock_that_is_released_while_it_is_looked_at_is_not_stale() {
    look_while_a_run_ends(|pod| match pod.lock_status().expect("a status") {
        Status::Free | Status::Held(_) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn file_or_link_in_place_of_the_directories_of_notes_is_foreign() {
    for name in ["_staging/quarantine", "_staging/.attempts"] {
        for is_link in [false, true] {
            let workspace = TestWorkspace::with_staging();
            let outside = workspace.root().join("outside");
            fs::create_dir(&outside).expect("a directory");
            fs::write(outside.join(new_entry_id().reason_name()), "mine").expect("written");
            if is_link {
                symlink(&outside, workspace.root().join(name)).expect("a link");
            } else {
                fs::write(workspace.root().join(name), "mine").expect("written");
            }
            is_found_and_left(&workspace, FindingKind::Foreign, name);
            assert_eq!(names(&outside).len(), 1, "a link was followed");
        }
    }
}

#[test]
fn something_else_in_place_of_a_directory_is_foreign_and_the_others_are_looked_at_all_the_same() {
    for name in ["_staging", "_staging/.owners", "runs", "runs/.unfinished", "memory"] {
        for is_link in [false, true] {
            let workspace = TestWorkspace::new();
            for other in ["_staging", "memory/fact", "outside"] {
                if !name.starts_with(other) && !other.starts_with(name) {
                    fs::create_dir_all(workspace.root().join(other)).expect("a directory");
                }
            }
            let outside = workspace.root().join("outside");
            let in_its_place = workspace.root().join(name);
            fs::create_dir_all(in_its_place.parent().expect("within the workspace")).expect("a directory");
            if is_link {
                symlink(&outside, &in_its_place).expect("a link");
            } else {
                fs::write(&in_its_place, "mine").expect("written");
            }
            let odd = if name == "memory" { "_staging/.owners/odd" } else { "memory/odd.md" };
            fs::create_dir_all(workspace.root().join(odd).parent().expect("within")).expect("a directory");
            fs::write(workspace.root().join(odd), "mine").expect("written");

            let found = workspace.open(&World::new().start(OWN)).examine().expect("examined");
            let (mut found, mut expected) =
                (told(&found), [name, odd].map(|path| (FindingKind::Foreign, path)));
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{name}, a link: {is_link}");
            assert_eq!(names(&outside), [""; 0], "a link was followed");
        }
    }
}

/// One finding, which stays, and says what helps.
#[track_caller]
fn is_found_and_left(workspace: &TestWorkspace, kind: FindingKind, path: &str) -> Finding {
    let pod = workspace.open(&World::new().start(OWN));
    let before = tree(workspace);
    let found = pod.examine().expect("examined");
    assert_eq!(told(&found), [(kind, path)]);
    assert!(!found[0].mendable && !found[0].detail.is_empty(), "{found:?}");
    assert_eq!(tree(workspace), before, "who only looks changes nothing");
    assert_eq!(pod.mend(&options()).expect("mended"), found, "it is left");
    assert_eq!(pod.examine().expect("examined"), found);
    found[0].clone()
}

#[test]
fn unreadable_outcome_is_found_and_left() {
    for content in ["", "{\"half\":", "[]"] {
        let workspace = TestWorkspace::new();
        let name = new_entry_id().file_name();
        let path = workspace.put_run(&name, content);
        is_found_and_left(&workspace, FindingKind::UnreadableOutcome, &format!("runs/{name}"));
        assert_eq!(fs::read(path).expect("it is there"), content.as_bytes());
    }
}

#[test]
fn unusable_entry_is_found_and_left() {
    let workspace = TestWorkspace::new();
    let name = new_entry_id().file_name();
    workspace.put(&name, "{}");
    is_found_and_left(&workspace, FindingKind::UnusableEntry, &format!("_staging/{name}"));
    assert!(workspace.staged(&name).exists());
}

#[test]
fn what_somebody_wrote_into_a_record_that_a_run_changed_is_found_and_left() {
    let run = days_ago(40);
    for name in [format!("{run}.0.md"), format!("{run}.12.0123456789abcdef.md"), format!("{run}.0.gone.md")] {
        let workspace = TestWorkspace::new();
        let path = format!("runs/.before/{name}");
        workspace.put_note(&path, "by hand\n");
        set_age(&workspace.root().join(&path), 40 * 86_400);
        let found = is_found_and_left(&workspace, FindingKind::KeptEdit, &path);
        assert!(found.detail.contains(&format!("in a record when run {run}")), "{found:?}");
        assert!(found.detail.contains("take over what is still needed"), "{found:?}");
    }
}

#[test]
fn foreign_things_are_found_and_left() {
    let run = new_entry_id();
    for path in [
        "_staging/.owners/README".to_owned(),
        "runs/notes.txt".into(),
        "_staging/.attempts/README".into(),
        format!("_staging/.attempts/{}", run.reason_name()),
        format!("_staging/.attempts/{run}"),
        "_staging/quarantine/README".into(),
        "_staging/quarantine/notes.json".into(),
        format!("_staging/quarantine/{run}.reason.json.bak"),
        "runs/notes.json".into(),
        format!("runs/{}.bak", run.file_name()),
        "runs/.unfinished/README".into(),
        format!("runs/.unfinished/{run}.json"),
        format!("runs/.unfinished/{run}.committed.bak"),
        "runs/.before/README".into(),
        format!("runs/.before/{run}.md"),
        format!("runs/.before/{run}.notes.md"),
    ] {
        let workspace = TestWorkspace::new();
        let file = workspace.root().join(&path);
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(&file, "mine").expect("written");
        is_found_and_left(&workspace, FindingKind::Foreign, &path);
        assert_eq!(fs::read(file).expect("it is there"), b"mine");
    }
}

#[test]
fn directories_and_links_in_place_of_files_of_ours_are_foreign() {
    let run = new_entry_id();
    for path in [
        format!("runs/{}", run.file_name()),
        format!("runs/.unfinished/{}", Progress::Committed.name(run)),
        format!("runs/.unfinished/{}", Progress::Open.name(run)),
        format!("_staging/.attempts/{}", run.file_name()),
        format!("_staging/quarantine/{}", run.file_name()),
        format!("_staging/quarantine/{}", run.reason_name()),
    ] {
        for is_link in [false, true] {
            let workspace = TestWorkspace::new();
            let id = workspace.put_entry();
            let outside = workspace.root().join("outside");
            fs::write(&outside, outcome(run, &[id])).expect("written");
            let odd = workspace.root().join(&path);
            fs::create_dir_all(odd.parent().expect("a directory")).expect("a directory");
            if is_link {
                symlink(&outside, &odd).expect("a link");
            } else {
                fs::create_dir(&odd).expect("a directory");
            }
            is_found_and_left(&workspace, FindingKind::Foreign, &path);
            assert!(workspace.staged(&id.file_name()).exists() && outside.exists());
        }
    }
    let workspace = TestWorkspace::with_staging();
    fs::create_dir(workspace.lock()).expect("a directory");
    let pod = workspace.open(&World::new().start(OWN));
    let found = pod.examine().expect("examined");
    assert_eq!(told(&found), [(FindingKind::Foreign, "_staging/.consolidation.lock")]);
    assert_eq!(pod.mend(&options()).expect_err("refused").code, ErrorCode::WrongFileType);
    assert!(workspace.lock().is_dir());
    // In the place of a lock that was put aside, also while somebody holds the lock.
    let workspace = TestWorkspace::with_staging();
    let pod = workspace.open(&World::new().start(OWN));
    let (held, _) = pod.acquire(&options()).expect("held");
    let aside = "_staging/.consolidation.lock.q";
    fs::create_dir(workspace.root().join(aside)).expect("a directory");
    assert_eq!(told(&pod.examine().expect("examined")), [(FindingKind::Foreign, aside)]);
    held.release_only(None).expect("released");
    assert_eq!(told(&pod.examine().expect("examined")), [(FindingKind::Foreign, aside)]);
}

#[test]
fn mend_is_refused_while_the_lock_is_held_and_changes_nothing() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    let id = workspace.put_entry();
    let holder = workspace.open(&world.start(OTHER));
    let (mut held, _) = holder.acquire(&options()).expect("held");
    holder.record_consumed(&mut held, vec![id]).expect("recorded");
    workspace.put_unfinished(Progress::Committed, new_entry_id(), &[]);
    let old = days_ago(2).temporary_name();
    workspace.put(&old, "");
    set_age(&workspace.staged(&old), 2 * 86_400);
    let before = tree(&workspace);
    let pod = workspace.open(&world.start(OWN));
    let error = pod.mend(&options()).expect_err("in use");
    assert_eq!((error.code, error.owner.as_ref().map(|owner| owner.pid)), (ErrorCode::InUse, Some(OTHER)));
    assert_eq!(
        told(&pod.examine().expect("examined")),
        [(FindingKind::Temporary, &*format!("_staging/{old}"))],
        "what a holder that lives has not ended is its work"
    );
    assert_eq!(workspace.lock_bytes().is_some(), workspace.owners().len() == 1);
    // Only the directories' times tell that a contender was there.
    let files = |tree: Vec<String>| tree.into_iter().filter(|line| !line.contains("is_dir: true")).count();
    assert_eq!(files(tree(&workspace)), files(before));
    assert_eq!(held.release_with_cleanup().expect("still ours").removed, 1);
}

#[test]
fn lock_that_nobody_can_judge_is_no_finding_and_not_mended() {
    let workspace = TestWorkspace::new();
    let there = World::in_scope(scope("machine2", "boot2", "1")).start(OTHER);
    drop(workspace.open(&there).acquire(&options()).expect("held"));
    let pod = workspace.open(&World::new().start(OWN));
    assert_eq!(pod.examine().expect("examined"), []);
    assert_eq!(pod.mend(&options()).expect_err("unknown").code, ErrorCode::InUse);
    assert!(workspace.lock_bytes().is_some());
}

#[test]
fn everything_at_once_is_sorted_by_kind_and_path() {
    let workspace = TestWorkspace::new();
    let id = workspace.put_entry();
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[&id.to_string()]));
    workspace.put("notes.json", "");
    let runs = [new_entry_id(), new_entry_id()];
    workspace.put_unfinished(Progress::Committed, runs[1], &[id]);
    workspace.put_unfinished(Progress::Open, runs[0], &[id]);
    workspace.put_run("notes.txt", "");
    workspace.put_run(&runs[1].file_name(), "torn");
    let pod = workspace.open(&World::new().start(OWN));
    let found = pod.examine().expect("examined");
    let kinds: Vec<FindingKind> = found.iter().map(|finding| finding.kind).collect();
    assert_eq!(
        kinds,
        [
            FindingKind::StaleLock,
            FindingKind::UnfinishedRun,
            FindingKind::UnfinishedRun,
            FindingKind::UnreadableOutcome,
            FindingKind::UnusableEntry,
            FindingKind::Foreign,
        ]
    );
    assert!(found.is_sorted());
    let mended = pod.mend(&options()).expect("mended");
    for finding in &mended {
        let is_mended = finding.mendable || finding.kind == FindingKind::UnreadableOutcome;
        assert_eq!(finding.mended, is_mended, "{finding:?}");
    }
    assert!(!workspace.staged(&id.file_name()).exists(), "it was consumed");
}

/// What could not be removed is not said to be.
#[test]
fn what_cannot_be_removed_is_said_to_be_left() {
    let workspace = TestWorkspace::with_staging();
    let name = days_ago(2).temporary_name();
    workspace.put(&name, "");
    set_age(&workspace.staged(&name), 2 * 86_400);
    let id = workspace.put_entry();
    let run = workspace.put_unfinished(Progress::Committed, new_entry_id(), &[id]);
    let faults = Faults::by(|_, call| {
        let stubborn = call.op == Op::Unlink && (call.path.ends_with(".tmp") || call.path.ends_with(".json"));
        if stubborn { Fault::Refuse(FsErrorKind::NotPermitted) } else { Fault::Pass }
    });
    let pod = workspace.open_faulty(&World::new().start(OWN), &faults);
    let found = pod.mend(&options()).expect("mended");
    assert_eq!(
        told(&found),
        [(FindingKind::Temporary, &*format!("_staging/{name}")), (FindingKind::UnfinishedRun, &*run)]
    );
    assert!(found.iter().all(|finding| finding.mendable && !finding.mended), "{found:?}");
    workspace.assert_only_temporary(&name);
}

impl TestWorkspace {
    #[track_caller]
    fn assert_only_temporary(&self, name: &str) {
        assert_eq!(self.temporaries(), [name]);
        assert!(self.lock_bytes().is_none());
        assert_eq!(self.owners(), [] as [String; 0]);
    }
}

#[test]
fn unreadable_outcome_is_found_also_if_no_run_was_ever_under_way() {
    let workspace = TestWorkspace::with_staging();
    let run =
        consolidation_guest::layout::RunId::parse("01890a5d-ac96-774b-bcce-b302099a8057").expect("an id");
    let runs = workspace.root().join(consolidation_guest::layout::RUNS);
    std::fs::create_dir(&runs).expect("a directory");
    std::fs::write(runs.join(run.file_name()), "bad").expect("written");
    let world = World::new();
    let found = workspace.open(&world.start(1)).examine().expect("examined");
    assert!(found.iter().any(|finding| finding.kind == FindingKind::UnreadableOutcome), "{found:?}");
}
