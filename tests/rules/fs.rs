//! Reading whole files that grow, shrink, are too large or are none.

use crate::support::faulty::{Fault, Faults, FaultyDir, Op};
use consolidation_guest::fs::{Content, Dir, FsErrorKind, Kind, read_open_file};
use consolidation_guest::native::NativeDir;
use std::fs;
use tempfile::{TempDir, tempdir};

const LIMIT: u64 = 1024 * 1024;

/// A directory with a file `name` of so many bytes.
fn with_file(size: usize, faults: &Faults) -> (TempDir, FaultyDir) {
    let place = tempdir().expect("a temporary directory");
    let content: Vec<u8> = (0..size).map(|byte| u8::try_from(byte % 251).expect("fits")).collect();
    fs::write(place.path().join("name"), content).expect("a file");
    let dir = FaultyDir::open_path(place.path(), faults);
    (place, dir)
}

fn reads(faults: &Faults) -> usize {
    faults.calls().iter().filter(|call| call.op == Op::Read).count()
}

#[test]
fn file_of_any_size_up_to_the_limit_is_read_whole() {
    let limit = usize::try_from(LIMIT).expect("fits");
    for size in [0, 1, 4_095, 4_096, 8_192, 65_535, 65_536, 65_537, limit - 1, limit] {
        let (place, dir) = with_file(size, &Faults::none());
        let expected = fs::read(place.path().join("name")).expect("a file");
        assert_eq!(dir.read_file("name", LIMIT), Ok(Content::Whole(expected)), "{size}");
    }
}

#[test]
fn file_above_the_limit_is_not_read_to_its_end() {
    for size in [LIMIT + 1, 10 * LIMIT] {
        let faults = Faults::none();
        let (place, dir) = with_file(10, &faults);
        let file = fs::File::options().write(true).open(place.path().join("name")).expect("the file opens");
        file.set_len(size).expect("a sparse file");
        let Ok(Content::TooLarge(beginning)) = dir.read_file("name", LIMIT) else { panic!("{size}") };
        assert_eq!(beginning[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(beginning.len() <= 65_536, "{} bytes were read", beginning.len());
    }
}

#[test]
fn small_file_takes_one_read() {
    let faults = Faults::none();
    let (_place, dir) = with_file(812, &faults);
    dir.read_file("name", LIMIT).expect("read");
    assert_eq!(reads(&faults), 1);
}

#[test]
fn file_that_grew_since_it_was_looked_at_is_read_whole_and_in_large_pieces() {
    for (seen, size) in [(0, 500_000), (10, 500_000), (65_536, 500_000), (812, 813)] {
        let faults = Faults::none();
        let (place, dir) = with_file(size, &faults);
        let file = dir.open("name").expect("the file opens");
        let expected = fs::read(place.path().join("name")).expect("a file");
        assert_eq!(read_open_file(&file, seen, LIMIT), Ok(Content::Whole(expected)), "{seen} {size}");
        assert!(reads(&faults) <= 20, "{} reads for {size} bytes", reads(&faults));
    }
}

#[test]
fn file_that_grew_above_the_limit_is_too_large() {
    let (_place, dir) = with_file(200_000, &Faults::none());
    let file = dir.open("name").expect("the file opens");
    assert!(matches!(read_open_file(&file, 100, 100_000), Ok(Content::TooLarge(_))));
}

#[test]
fn file_that_shrank_since_it_was_looked_at_is_read_as_it_is() {
    for (seen, size) in [(1_000, 0), (1_000, 999), (500_000, 65_536), (2 * LIMIT, 10)] {
        let (place, dir) = with_file(size, &Faults::none());
        let file = dir.open("name").expect("the file opens");
        let expected = fs::read(place.path().join("name")).expect("a file");
        match read_open_file(&file, seen, LIMIT).expect("read") {
            Content::Whole(content) => assert_eq!(content, expected),
            other => assert!(seen > LIMIT, "{seen} {size}: {other:?}"),
        }
    }
}

#[test]
fn short_reads_are_completed() {
    for most in [1, 7, 811] {
        let (place, dir) = with_file(812, &Faults::of(Op::Read, Fault::Short(most)));
        let expected = fs::read(place.path().join("name")).expect("a file");
        assert_eq!(dir.read_file("name", LIMIT), Ok(Content::Whole(expected)), "{most}");
    }
}

#[test]
fn interrupted_read_is_repeated_and_another_failure_is_one() {
    let mut interruptions = 3;
    let faults = Faults::by(move |_, call| {
        if call.op == Op::Read && interruptions > 0 {
            interruptions -= 1;
            return Fault::Refuse(FsErrorKind::Interrupted);
        }
        Fault::Pass
    });
    let (_place, dir) = with_file(812, &faults);
    assert!(matches!(dir.read_file("name", LIMIT), Ok(Content::Whole(content)) if content.len() == 812));
    let (_place, dir) = with_file(812, &Faults::of(Op::Read, Fault::Refuse(FsErrorKind::Io)));
    assert_eq!(dir.read_file("name", LIMIT).expect_err("no content").kind, FsErrorKind::Io);
}

#[test]
fn what_is_no_file_is_not_opened() {
    let faults = Faults::none();
    let (place, dir) = with_file(1, &faults);
    fs::create_dir(place.path().join("directory")).expect("a directory");
    assert_eq!(dir.read_file("directory", LIMIT), Ok(Content::NotAFile(Kind::Directory)));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("name", place.path().join("link")).expect("a link");
        assert_eq!(dir.read_file("link", LIMIT), Ok(Content::NotAFile(Kind::Symlink)));
        crate::support::make_fifo(&place.path().join("pipe"));
        assert_eq!(dir.read_file("pipe", LIMIT), Ok(Content::NotAFile(Kind::Other)));
    }
    assert_eq!(dir.read_file("nothing", LIMIT).expect_err("no file").kind, FsErrorKind::NotFound);
    assert!(faults.calls().iter().all(|call| call.op != Op::Open), "{:?}", faults.calls());
}

#[test]
fn listing_begins_at_the_start_also_within_another_one_and_after_one_that_was_broken_off() {
    let place = tempdir().expect("a temporary directory");
    for number in 0..2_000 {
        fs::write(place.path().join(format!("a-name-of-some-length-{number}")), "").expect("a file");
    }
    let dir = NativeDir::open_path(place.path()).expect("the directory opens");
    let count = || {
        let mut names = 0;
        dir.list(&mut |_| names += 1).expect("listed");
        names
    };
    let mut outer = 0;
    dir.list(&mut |_| {
        if outer % 700 == 0 {
            assert_eq!(count(), 2_000, "within the listing, after {outer} names");
        }
        outer += 1;
    })
    .expect("listed");
    assert_eq!((outer, count()), (2_000, 2_000));
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dir.list(&mut |_| panic!())));
    assert!(broken.is_err());
    assert_eq!((count(), count()), (2_000, 2_000));
}
