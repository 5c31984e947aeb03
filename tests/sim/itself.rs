//! The simulator itself: what its disk keeps and loses.

use super::disk::{Disk, Quirks, ROOT};
use super::schedule::Choices;
use consolidation_guest::fs::{FsError, FsErrorKind, Time};

const NOW: Time = Time::from_nanos(1_000_000_000);

/// All that a power loss can leave: the paths with their contents.
fn after_power_loss(disk: &Disk) -> Vec<String> {
    let mut all = Vec::new();
    let mut choices = Choices::all();
    while let Some(mut pick) = choices.next() {
        let mut disk = disk.clone();
        disk.lose_power(&mut pick);
        let told = |path: &String| match disk.content(path) {
            Some(content) => format!("{path}={}", String::from_utf8_lossy(content).replace('\0', "0")),
            None => path.clone(),
        };
        all.push(disk.paths().iter().map(told).collect::<Vec<_>>().join(" "));
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn what_was_not_synchronised_may_be_lost_or_torn() {
    let mut disk = Disk::new(Quirks::NONE);
    let file = disk.create(ROOT, "a", NOW).expect("it is new");
    disk.write(file, b"wxyz", 0, NOW);
    assert_eq!(
        after_power_loss(&disk),
        ["", "a=", "a=0000", "a=w", "a=w000", "a=wx", "a=wx00", "a=wxy", "a=wxy0", "a=wxyz"]
    );
    disk.sync(file);
    assert_eq!(after_power_loss(&disk), ["", "a=wxyz"]);
    disk.sync_names(ROOT).expect("it can");
    assert_eq!(after_power_loss(&disk), ["a=wxyz"]);
}

#[test]
fn a_rename_is_done_or_not() {
    let mut disk = Disk::new(Quirks::NONE);
    disk.put("a", b"1", NOW);
    disk.put("b", b"2", NOW);
    disk.rename(ROOT, "a", ROOT, "b").expect("a file");
    assert_eq!(after_power_loss(&disk), ["a=1 b=2", "b=1"]);
}

#[test]
fn any_subset_of_the_names_is_left() {
    let mut disk = Disk::new(Quirks::NONE);
    disk.put("d/a", b"1", NOW);
    let dir = disk.open_dir(ROOT, "d").expect("a directory");
    disk.link(dir, "a", ROOT, "b").expect("links");
    disk.rename(dir, "a", dir, "c").expect("a file");
    assert_eq!(after_power_loss(&disk), ["b=1 d/ d/a=1", "b=1 d/ d/c=1", "d/ d/a=1", "d/ d/c=1"]);
    disk.sync_names(ROOT).expect("it can");
    assert_eq!(after_power_loss(&disk), ["b=1 d/ d/a=1", "b=1 d/ d/c=1"]);
}

#[test]
fn a_rename_between_directories_is_durable_with_either() {
    let mut disk = Disk::new(Quirks::NONE);
    disk.create_dir(ROOT, "d").expect("it is new");
    let dir = disk.open_dir(ROOT, "d").expect("a directory");
    let file = disk.create(dir, "a", NOW).expect("it is new");
    disk.sync(file);
    disk.rename(dir, "a", ROOT, "b").expect("a file");
    disk.sync_names(ROOT).expect("it can");
    assert_eq!(after_power_loss(&disk), ["b= d/"]);
}

#[test]
fn an_open_file_outlives_its_names() {
    let mut disk = Disk::new(Quirks::NONE);
    let file = disk.create(ROOT, "a", NOW).expect("it is new");
    disk.write(file, b"x", 0, NOW);
    disk.unlink(ROOT, "a").expect("a file");
    assert_eq!(disk.read(file, 10, 0), b"x");
    assert_eq!(disk.create(ROOT, "a", NOW).map(|new| new == file), Ok(false));
    assert_eq!(disk.create(ROOT, "a", NOW), Err(FsError::new(FsErrorKind::Exists)));
}
