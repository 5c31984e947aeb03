//! The order in which bytes reach the disk, and what is left when a step fails.

use crate::support::faulty::{ALL_KINDS, Fault, Faults, FaultyDir, Op};
use crate::support::names;
use consolidation_guest::durable::{Durability, create_whole, replace, sync_names};
use consolidation_guest::fs::{FsErrorKind, FsResult};
use std::fs;
use tempfile::{TempDir, tempdir};

struct Fixture {
    dir: TempDir,
    faults: Faults,
}

impl Fixture {
    fn with(faults: Faults) -> Self {
        Fixture { dir: tempdir().expect("a temporary directory"), faults }
    }

    /// With a file `name` that holds `old`.
    fn with_old(faults: Faults) -> Self {
        let fixture = Fixture::with(faults);
        fs::write(fixture.dir.path().join("name"), "old").expect("the old file");
        fixture
    }

    fn open(&self) -> FaultyDir {
        FaultyDir::open_path(self.dir.path(), &self.faults)
    }

    fn content(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join(name)).ok()
    }

    fn names(&self) -> Vec<String> {
        names(self.dir.path())
    }

    fn create(&self, content: &str, durability: Durability) -> FsResult<()> {
        create_whole(&self.open(), "name", content.as_bytes(), durability)
    }

    fn replace(&self, content: &str, durability: Durability) -> FsResult<()> {
        replace(&self.open(), "temporary", "name", content.as_bytes(), durability)
    }
}

fn kind_of(result: FsResult<()>) -> Option<FsErrorKind> {
    result.err().map(|error| error.kind)
}

#[test]
fn data_is_synchronised_before_the_name_is_there_and_the_name_before_the_end() {
    let fixture = Fixture::with(Faults::none());
    fixture.replace("new", Durability::Full).expect("replaced");
    assert_eq!(
        fixture.faults.changes(),
        ["Create temporary", "Write temporary", "Sync temporary", "Rename temporary -> name", "SyncNames ."]
    );
}

#[test]
fn nothing_is_synchronised_where_it_is_not_asked_for() {
    let fixture = Fixture::with(Faults::none());
    fixture.replace("new", Durability::None).expect("replaced");
    fixture.create("other", Durability::None).expect_err("the name exists");
    let calls = fixture.faults.calls();
    assert!(calls.iter().all(|call| !matches!(call.op, Op::Sync | Op::SyncNames)), "{calls:?}");
}

#[test]
fn creating_leaves_an_existing_file_alone() {
    let fixture = Fixture::with_old(Faults::none());
    assert_eq!(kind_of(fixture.create("new", Durability::Full)), Some(FsErrorKind::Exists));
    assert_eq!(fixture.content("name").as_deref(), Some("old"));
}

#[test]
fn short_writes_are_completed() {
    for most in [1, 2, 7] {
        let fixture = Fixture::with(Faults::of(Op::Write, Fault::Short(most)));
        let content = "0123456789".repeat(5);
        fixture.create(&content, Durability::Full).expect("written");
        assert_eq!(fixture.content("name"), Some(content));
    }
}

#[test]
fn write_of_nothing_is_an_error_and_no_endless_loop() {
    let fixture = Fixture::with(Faults::of(Op::Write, Fault::Short(0)));
    assert_eq!(kind_of(fixture.create("new", Durability::Full)), Some(FsErrorKind::NoSpace));
    assert_eq!(fixture.names(), [] as [String; 0]);
}

#[test]
fn interrupted_write_is_repeated() {
    let mut interruptions = 3;
    let faults = Faults::by(move |_, call| match call.op {
        Op::Write if interruptions > 0 => {
            interruptions -= 1;
            Fault::Refuse(FsErrorKind::Interrupted)
        }
        Op::Write => Fault::Short(1),
        _ => Fault::Pass,
    });
    let fixture = Fixture::with(faults);
    fixture.create("new", Durability::Full).expect("written");
    assert_eq!(fixture.content("name").as_deref(), Some("new"));
}

#[test]
fn empty_file_is_created_and_synchronised() {
    let fixture = Fixture::with(Faults::none());
    fixture.create("", Durability::Full).expect("written");
    assert_eq!(fixture.content("name").as_deref(), Some(""));
    assert_eq!(fixture.faults.changes(), ["Create name", "Sync name"]);
}

#[test]
fn name_is_gone_after_a_failed_write_or_synchronisation() {
    for op in [Op::Write, Op::Sync] {
        for kind in ALL_KINDS {
            if (op, kind) == (Op::Write, FsErrorKind::Interrupted) {
                continue;
            }
            let fixture = Fixture::with(Faults::of(op, Fault::Refuse(kind)));
            assert_eq!(kind_of(fixture.create("new", Durability::Full)), Some(kind));
            assert_eq!(fixture.names(), [] as [String; 0], "{op:?} {kind:?}");
        }
    }
}

#[test]
fn disk_that_fills_up_in_the_middle_leaves_no_half_file() {
    let mut written = 0;
    let faults = Faults::by(move |_, call| match call.op {
        Op::Write if written < 2 => {
            written += 1;
            Fault::Short(1)
        }
        Op::Write => Fault::Refuse(FsErrorKind::NoSpace),
        _ => Fault::Pass,
    });
    let fixture = Fixture::with(faults);
    assert_eq!(kind_of(fixture.create("new", Durability::None)), Some(FsErrorKind::NoSpace));
    assert_eq!(fixture.names(), [] as [String; 0]);
}

#[test]
fn first_error_is_reported_even_if_the_name_cannot_be_removed() {
    let faults = Faults::by(|_, call| match call.op {
        Op::Write => Fault::Refuse(FsErrorKind::NoSpace),
        Op::Unlink => Fault::Refuse(FsErrorKind::ReadOnly),
        _ => Fault::Pass,
    });
    assert_eq!(kind_of(Fixture::with(faults).create("new", Durability::Full)), Some(FsErrorKind::NoSpace));
}

#[test]
fn replacing_shows_the_old_content_until_the_new_one_is_whole() {
    let count = {
        let fixture = Fixture::with_old(Faults::none());
        fixture.replace("new", Durability::Full).expect("replaced");
        assert_eq!(fixture.content("name").as_deref(), Some("new"));
        fixture.faults.calls().len()
    };
    for number in 0..count {
        for kind in ALL_KINDS {
            let fixture = Fixture::with_old(Faults::nth(number, Fault::Refuse(kind)));
            let result = fixture.replace("new", Durability::Full);
            let failed = &fixture.faults.calls()[number];
            // By then the new content is in its place.
            let late = failed.op == Op::SyncNames;
            let expected = if result.is_ok() || late { "new" } else { "old" };
            assert_eq!(fixture.content("name").as_deref(), Some(expected), "{failed:?}: {result:?}");
            assert_eq!(fixture.names(), ["name"], "{failed:?}: {result:?}");
        }
    }
}

#[test]
fn a_process_killed_at_any_step_leaves_the_old_content_or_the_new() {
    for number in 0..6 {
        let fixture = Fixture::with_old(Faults::killed_before(number));
        let _ = fixture.replace("new", Durability::Full);
        let content = fixture.content("name");
        assert!(matches!(content.as_deref(), Some("old" | "new")), "killed before {number}: {content:?}");
    }
}

#[test]
fn directory_that_cannot_be_synchronised_is_no_failure_but_a_failing_disk_is() {
    for kind in ALL_KINDS {
        let fixture = Fixture::with(Faults::of(Op::SyncNames, Fault::Refuse(kind)));
        let harmless = matches!(kind, FsErrorKind::Invalid | FsErrorKind::Unsupported);
        assert_eq!(kind_of(sync_names(&fixture.open())), (!harmless).then_some(kind));
    }
}
