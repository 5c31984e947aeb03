//! Files that belong to this user alone: what `plugin::cache` needs before it loads machine code from
//! them. Invariant: in doubt a file is somebody else's.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::path::Path;

/// Opens a file for reading, unless its name is a symbolic link. Does not wait for the writer of a pipe.
pub(crate) fn open_no_follow(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
    }
    #[cfg(not(unix))]
    Err(io::Error::new(io::ErrorKind::Unsupported, path.display().to_string()))
}

/// Is it certain that a file or directory belongs to this user and nobody else can write to it?
pub(crate) fn is_ours_alone(about: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
        about.uid() == rustix::process::geteuid().as_raw() && about.mode() & GROUP_AND_OTHERS_WRITE == 0
    }
    #[cfg(not(unix))]
    {
        let _ = about;
        false
    }
}

/// Makes a directory, if it is missing, that nobody else can look into.
pub(crate) fn create_own_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
