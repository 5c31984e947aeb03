//! The directories in which is measured, each with the name of its file system.

use super::summary;
use rustix::fs::{IFlags, Mode, OFlags, StatVfs, ioctl_getflags, ioctl_setflags, statfs, statvfs};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// A directory for workspaces.
pub(crate) struct Place {
    /// The kind of its file system.
    pub(crate) name: String,
    path: PathBuf,
}

impl Place {
    fn at(path: &Path) -> Place {
        let kind = statfs(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).f_type;
        // `linux/magic.h`
        let name = match kind {
            0x0102_1994 => "tmpfs".into(),
            // ext2, ext3 and ext4 share it.
            0xef53 => "ext4".into(),
            0x9123_683e => "btrfs".into(),
            0x5846_5342 => "xfs".into(),
            0x794c_7630 => "overlayfs".into(),
            0x2fc1_2fc1 => "zfs".into(),
            0x6969 => "nfs".into(),
            other => format!("{other:#x}"),
        };
        Place { name, path: path.to_owned() }
    }

    /// A file system in memory, if there is one, and `CONSOLIDATION_BENCH_DIR`, or else a directory in cargo's
    /// target folder. One of each kind of file system.
    pub(crate) fn all() -> Vec<Place> {
        let memory = Path::new("/dev/shm");
        let memory = memory.is_dir().then(|| Place::at(memory)).filter(Place::is_memory);
        let mut disk = DISK.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = Place::at(disk.get_or_insert_with(on_disk).path());
        let disk = Some(disk).filter(|place| memory.is_none() || !place.is_memory());
        memory.into_iter().chain(disk).collect()
    }

    /// The one on which the least time is spent waiting for a disk.
    pub(crate) fn fastest() -> Place {
        Place::all().swap_remove(0)
    }

    /// Is it a file system in memory?
    pub(crate) fn is_memory(&self) -> bool {
        self.name == "tmpfs"
    }

    /// A fresh directory in it. On a disk it stays until [`Clear`], see [`spread`].
    pub(crate) fn directory(&self) -> Directory {
        let made = TempDir::with_prefix_in("consolidation-bench-", &self.path)
            .expect("a directory for the workspace");
        match self.is_memory() {
            true => Directory { path: made.path().to_owned(), _until_dropped: Some(made) },
            false => Directory { path: made.keep(), _until_dropped: None },
        }
    }

    /// Is there room for so many entries, of one block each, twice over?
    pub(crate) fn has_room_for(&self, entries: u64) -> bool {
        let StatVfs { f_bavail, f_frsize, f_favail, f_files, .. } = statvfs(&self.path).expect("looked at");
        let bytes = 2 * entries * f_frsize.max(4096);
        // Some file systems make inodes as they are needed, and say 0.
        let memory = if self.is_memory() { available_memory() } else { u64::MAX };
        f_bavail * f_frsize > bytes && memory > bytes && (f_files == 0 || f_favail > 2 * entries)
    }
}

/// A directory for one workspace.
pub(crate) struct Directory {
    path: PathBuf,
    _until_dropped: Option<TempDir>,
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// What this process has made on a disk.
static DISK: Mutex<Option<TempDir>> = Mutex::new(None);

/// Removes everything that was made, when it is dropped.
pub(crate) struct Clear;

impl Drop for Clear {
    fn drop(&mut self) {
        drop(DISK.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn on_disk() -> TempDir {
    let parent = match std::env::var_os("CONSOLIDATION_BENCH_DIR") {
        Some(path) => PathBuf::from(path),
        None => summary::directory(),
    };
    fs::create_dir_all(&parent).expect("a folder for workspaces");
    let made = TempDir::with_prefix_in("consolidation-bench-", parent).expect("a folder for workspaces");
    spread(made.path());
    made
}

/// Has ext4 keep the directories in this one apart (`chattr +T`). For minutes after a file was deleted ext4 does
/// not give its inode away, and who makes a file in the same part of the disk passes over all of these, one by one:
/// what one workspace deletes would slow down another one tenfold. For the same reason nothing is removed before
/// the end.
fn spread(path: &Path) {
    // Where it is not possible it is not needed, or the figures are as they are.
    let _ = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .and_then(|directory| ioctl_setflags(&directory, ioctl_getflags(&directory)? | IFlags::TOPDIR));
}

/// What the machine can still use, in bytes.
fn available_memory() -> u64 {
    let about = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = about.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    kilobytes.map_or(u64::MAX, |kilobytes| kilobytes << 10)
}
