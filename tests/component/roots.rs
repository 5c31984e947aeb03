//! Opening a workspace: which directories work, and what is said of those that don't.

use super::{POD, open, payload, payloads, refused};
use crate::support::TestWorkspace;
use consolidation_host::{Error, ErrorCode, Workspace};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Everything that a workspace is for.
#[track_caller]
fn use_it(root: &Path) {
    let workspace = Workspace::open(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let before = workspace.list().expect("listed").len();
    let id = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    lock.record_consumed(&[id]).expect("recorded");
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
    assert_eq!(workspace.list().expect("listed").len(), before);
    assert!(workspace.root().is_absolute());
}

#[test]
fn root_may_have_any_name() {
    let place = TestWorkspace::new();
    let names: [&[u8]; 8] = [
        b"with space",
        "\u{fc}n\u{ef} \u{1f4e6}".as_bytes(),
        b"quo\"te's",
        b"line\nbreak",
        b"-rf",
        b"$HOME",
        b"back\\slash",
        b"not \xff UTF-8",
    ];
    // Other systems have no names that are not UTF-8.
    for name in names.into_iter().filter(|name| cfg!(target_os = "linux") || str::from_utf8(name).is_ok()) {
        let root = place.root().join(OsStr::from_bytes(name));
        fs::create_dir(&root).expect("made");
        use_it(&root);
        assert!(root.join("_staging").is_dir());
    }
}

#[test]
fn root_may_be_written_in_any_way() {
    let place = TestWorkspace::new();
    let root = place.root().join("root");
    fs::create_dir_all(root.join("below")).expect("made");
    symlink("root", place.root().join("link")).expect("linked");
    let here = std::env::current_dir().expect("there is a current directory");
    // Up to the top and down again.
    let mut relative: PathBuf = here.components().skip(1).map(|_| "..").collect();
    relative.push(root.strip_prefix("/").expect("it is absolute"));
    assert!(relative.is_relative());
    let slash = PathBuf::from(format!("{}//", root.display()));
    for way in [&relative, &slash, &root.join("below/.."), &root.join("."), &place.root().join("link")] {
        use_it(way);
        let workspace = Workspace::open(way).expect("it opens");
        assert_eq!(workspace.root(), root.canonicalize().expect("it is there"));
    }
}

#[test]
fn messages_name_the_host_path() {
    let place = TestWorkspace::new();
    let workspace = open(&place);
    fs::write(place.staging(), "").expect("written");
    let error = refused(workspace.stage(&payload(1)), ErrorCode::WrongFileType);
    assert!(error.to_string().contains(&workspace.root().display().to_string()), "{error}");
    assert_eq!(error.path(), Some(&*workspace.root().join("_staging")));
}

#[test]
fn missing_root_is_an_error_that_names_it() {
    let place = TestWorkspace::new();
    for root in [place.root().join("missing"), place.root().join("missing/below"), PathBuf::new()] {
        let error = refused(Workspace::open(&root), ErrorCode::NotFound);
        assert!(matches!(&error, Error::Open { path, .. } if *path == root), "{error:?}");
        assert_eq!(error.path(), Some(&*root));
        assert!(error.to_string().contains("must be an existing directory"), "{error}");
    }
    symlink("nowhere", place.root().join("dangling")).expect("linked");
    refused(Workspace::open(place.root().join("dangling")), ErrorCode::NotFound);
    assert!(!place.root().join("missing").exists(), "a root is not made");
}

#[test]
fn root_that_is_no_directory_is_an_error_that_names_it() {
    let place = TestWorkspace::new();
    let file = place.root().join("file");
    fs::write(&file, "").expect("written");
    for root in [file.clone(), file.join("below")] {
        let error = refused(Workspace::open(&root), ErrorCode::WrongFileType);
        assert!(error.to_string().contains(&root.display().to_string()), "{error}");
    }
}

#[test]
fn workspace_follows_its_directory_when_that_is_renamed() {
    let place = TestWorkspace::new();
    let (before, after) = (place.root().join("before"), place.root().join("after"));
    fs::create_dir(&before).expect("made");
    let workspace = Workspace::open(&before).expect("it opens");
    let first = workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    fs::rename(&before, &after).expect("renamed");
    fs::create_dir(&before).expect("made");
    let second = workspace.stage(&payload(2)).expect("staged");
    assert_eq!(workspace.list().expect("listed"), [first, second]);
    lock.release_only(None).expect("it is released");
    assert!(!before.join("_staging").exists(), "another directory of its old name is not it");
    assert!(after.join("_staging").is_dir());
}

#[test]
fn root_that_is_removed_while_it_is_open_gives_errors_with_a_code() {
    let place = TestWorkspace::new();
    let root = place.root().join("root");
    fs::create_dir(&root).expect("made");
    let workspace = Workspace::open(&root).expect("it opens");
    workspace.stage(&payload(1)).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    fs::remove_dir_all(&root).expect("removed");
    refused(workspace.stage(&payload(2)), ErrorCode::NotFound);
    refused(workspace.acquire(POD), ErrorCode::NotFound);
    assert_eq!(workspace.list().expect("nothing is there"), [] as [String; 0]);
    refused(lock.release_with_cleanup(), ErrorCode::LockLost);
    assert!(!root.exists(), "nothing is made anew");
}

#[test]
fn root_without_permissions_gives_errors_that_say_so() {
    let name = concat!(module_path!(), "::root_without_permissions_gives_errors_that_say_so");
    super::own_process::without_privileges(name, || {
        let place = TestWorkspace::new();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("the mode is set");
        };
        // No search: it can't be opened, or nothing in it can.
        let closed = place.root().join("closed");
        fs::create_dir(&closed).expect("made");
        for bits in [0o000, 0o300, 0o600] {
            mode(&closed, bits);
            let staged = Workspace::open(&closed).and_then(|workspace| workspace.stage(&payload(1)));
            refused(staged, ErrorCode::PermissionDenied);
        }
        mode(&closed, 0o700);
        use_it(&closed);

        // No writing: what is there can be looked at.
        let root = place.root().join("root");
        fs::create_dir(&root).expect("made");
        let workspace = Workspace::open(&root).expect("it opens");
        let staged = workspace.stage_many(&payloads(2), None).expect("staged");
        workspace.acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
        for (directory, bits) in [("_staging", 0o500), ("_staging/.owners", 0o500)] {
            mode(&root.join(directory), bits);
        }
        let error = refused(workspace.acquire(POD), ErrorCode::PermissionDenied);
        assert!(error.to_string().contains("check the owner and the mode"), "{error}");
        refused(workspace.stage(&payload(3)), ErrorCode::PermissionDenied);
        assert_eq!(workspace.list().expect("listed"), staged);
        assert_eq!(workspace.summarize().expect("counted").entries, 2);
        workspace.lock_status().expect("it is looked at");
        mode(&root.join("_staging"), 0o700);
        mode(&root.join("_staging/.owners"), 0o700);
        workspace.acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
        assert_eq!(workspace.list().expect("listed"), staged);
    });
}
