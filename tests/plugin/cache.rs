//! Compiled plugins on disk.

use super::*;
use crate::support::events::Ear;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory for a cache, which does not exist yet.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a temporary directory"))
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache/plugins")
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.cache())
            .expect("there is a cache")
            .map(|entry| entry.expect("listed").path())
            .collect()
    }

    /// The only file.
    #[track_caller]
    fn file(&self) -> PathBuf {
        let mut files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    /// Loads a plugin that answers with so many updates, and says whether it was compiled.
    #[track_caller]
    fn compiles(&self, updates: usize) -> bool {
        let ear = Ear::of("consolidation_host::plugin");
        let text = PluginText::new(&format!("(call $answer (i32.const {updates}))"));
        let options = PluginOptions::new().cache(self.cache());
        let mut plugin = tracing::subscriber::with_default(ear.clone(), || load(&text, &options));
        assert_eq!(count(&mut plugin), updates);
        let messages: Vec<String> =
            ear.seen().iter().map(|event| event.field("message").to_owned()).collect();
        let compiled = messages.iter().any(|message| message.starts_with("compiled the plugin"));
        let taken = messages.iter().any(|message| message.starts_with("took the compiled plugin"));
        assert_ne!(compiled, taken, "{messages:?}");
        compiled
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is changed");
}

fn set_age(path: &Path, age: Duration) {
    let file = fs::File::open(path).expect("it opens");
    file.set_modified(SystemTime::now() - age).expect("it is changed");
}

#[test]
fn plugin_is_compiled_once() {
    let place = Place::new();
    assert!(place.compiles(1));
    let written = fs::metadata(place.file()).expect("it is there").modified().expect("a time");
    assert!(!place.compiles(1));
    assert_eq!(fs::metadata(place.file()).expect("it is there").modified().expect("a time"), written);
    assert_eq!((mode(&place.cache()), mode(&place.file())), (0o700, 0o600));
}

#[test]
fn changed_plugin_is_compiled_anew() {
    let place = Place::new();
    assert!(place.compiles(1));
    assert!(place.compiles(2));
    assert_eq!(place.files().len(), 2);
    assert!(!place.compiles(1));
    assert!(!place.compiles(2));
}

#[test]
fn damaged_file_is_compiled_anew_and_written_over() {
    let place = Place::new();
    assert!(place.compiles(1));
    let path = place.file();
    let whole = fs::read(&path).expect("it is read");
    let mut flipped = whole.clone();
    *flipped.last_mut().expect("it is not empty") ^= 1;
    let mut other_digest = whole.clone();
    other_digest[20] ^= 1;
    let mut other_header = whole.clone();
    other_header[0] ^= 1;
    let damaged: [&[u8]; 6] =
        [b"", &whole[..30], &whole[..whole.len() / 2], &flipped, &other_digest, &other_header];
    for content in damaged {
        fs::write(&path, content).expect("it is written");
        assert!(place.compiles(1));
        assert!(fs::read(&path).expect("it is read") == whole);
        assert!(!place.compiles(1));
    }
}

#[test]
fn file_that_others_can_write_is_not_loaded() {
    let place = Place::new();
    assert!(place.compiles(1));
    for wrong in [0o620, 0o602, 0o666] {
        set_mode(&place.file(), wrong);
        assert!(place.compiles(1));
        assert_eq!(mode(&place.file()), 0o600);
    }
}

#[test]
fn directory_that_others_can_write_is_not_used() {
    let place = Place::new();
    assert!(place.compiles(1));
    set_mode(&place.cache(), 0o777);
    assert!(place.compiles(1));
    assert!(place.compiles(2));
    place.file();
    set_mode(&place.cache(), 0o755);
    assert!(!place.compiles(1));
}

#[test]
fn link_is_not_followed() {
    let place = Place::new();
    assert!(place.compiles(1));
    let path = place.file();
    let elsewhere = place.0.path().join("elsewhere");
    fs::rename(&path, &elsewhere).expect("it is moved");
    symlink(&elsewhere, &path).expect("a link in its place");
    assert!(place.compiles(1));
    assert!(fs::symlink_metadata(&path).expect("it is there").is_file());
}

#[test]
fn cache_that_can_not_be_is_no_error() {
    let place = Place::new();
    fs::create_dir(place.0.path().join("cache")).expect("a directory");
    fs::write(place.cache(), "a file in its place").expect("it is written");
    assert!(place.compiles(1));
    assert!(place.compiles(1));
    // What stands in the place of an image and is no file.
    let place = Place::new();
    assert!(place.compiles(1));
    let path = place.file();
    fs::remove_file(&path).expect("it is removed");
    fs::create_dir(&path).expect("a directory in its place");
    assert!(place.compiles(1));
}

#[test]
fn files_that_were_not_used_for_long_are_removed() {
    let place = Place::new();
    assert!(place.compiles(1));
    assert!(place.compiles(2));
    let files = place.files();
    let foreign = place.cache().join("notes.txt");
    fs::write(&foreign, "of somebody else").expect("it is written");
    for path in files.iter().chain([&foreign]) {
        set_age(path, 31 * DAY);
    }
    // One of them is used, and another plugin comes.
    assert!(!place.compiles(2));
    assert!(place.compiles(3));
    assert!(foreign.exists());
    assert!(place.compiles(1));
    assert!(!place.compiles(2));
}
