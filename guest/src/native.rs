//! [`Dir`] over native system calls. Invariant: the same steps as the component's, call for call, so
//! that a comparison of the two measures the sandbox and nothing else.

use crate::fs::{Dir, File, FsError, FsErrorKind, FsResult, Kind, Listed, Stat, Time};
use crate::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names in one listing call to the kernel: about 500 of them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LISTING_BYTES: usize = 32 * 1024;

/// An open directory.
#[derive(Debug)]
pub struct NativeDir {
    fd: OwnedFd,
    is_listed: AtomicBool,
}

/// An open file.
#[derive(Debug)]
pub struct NativeFile(OwnedFd);

impl From<OwnedFd> for NativeDir {
    fn from(fd: OwnedFd) -> Self {
        NativeDir { fd, is_listed: AtomicBool::new(false) }
    }
}

impl NativeDir {
    /// Opens a directory by its path; a symbolic link is followed.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open_path(path: impl AsRef<Path>) -> FsResult<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path.as_ref(), flags, Mode::empty()).map(NativeDir::from).map_err(error)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> FsResult<NativeFile> {
        // NONBLOCK: what turned into a named pipe since it was looked at must not be waited for.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o666)).map(NativeFile).map_err(error)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn list_from_start(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0)).map_err(error)?;
        let mut buffer = Vec::with_capacity(LISTING_BYTES);
        let mut names = rustix::fs::RawDir::new(&self.fd, buffer.spare_capacity_mut());
        while let Some(entry) = names.next() {
            let entry = entry.map_err(error)?;
            self.tell(entry.file_name(), entry.file_type(), each)?;
        }
        Ok(())
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn list_from_start(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(error)? {
            let entry = entry.map_err(error)?;
            self.tell(entry.file_name(), entry.file_type(), each)?;
        }
        Ok(())
    }

    fn tell(&self, name: &CStr, file_type: FileType, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(());
        }
        let Ok(text) = name.to_str() else {
            each(Listed::NotUtf8);
            return Ok(());
        };
        match file_type {
            // Some file systems don't tell the type with the name.
            FileType::Unknown => match self.stat(text) {
                Ok(stat) => each(Listed::Named(text, stat.kind)),
                Err(error) if error.kind == FsErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            known => each(Listed::Named(text, kind(known))),
        }
        Ok(())
    }
}

impl File for NativeFile {
    fn read(&self, len: usize, offset: u64) -> FsResult<Vec<u8>> {
        let mut buffer = vec![0; len];
        let read = rustix::io::pread(&self.0, &mut buffer, offset).map_err(error)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> FsResult<usize> {
        rustix::io::pwrite(&self.0, bytes, offset).map_err(error)
    }

    fn sync(&self) -> FsResult<()> {
        rustix::fs::fsync(&self.0).map_err(error)
    }
}

impl Dir for NativeDir {
    type File = NativeFile;

    fn open_dir(&self, name: &str) -> FsResult<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map(NativeDir::from).map_err(error)
    }

    fn create_dir(&self, name: &str) -> FsResult<()> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o777)).map_err(error)
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        // Where a listing is belongs to the descriptor: one beside another goes over a descriptor of its own.
        if self.is_listed.swap(true, Ordering::Acquire) {
            return self.open_dir(".")?.list(each);
        }
        let listed = self.list_from_start(each);
        self.is_listed.store(false, Ordering::Release);
        listed
    }

    fn stat(&self, name: &str) -> FsResult<Stat> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(error)?;
        let time = |seconds, nanoseconds| Some(Time::new(seconds, u32::try_from(nanoseconds).ok()?));
        Ok(Stat {
            kind: kind(FileType::from_raw_mode(stat.st_mode)),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        })
    }

    fn open(&self, name: &str) -> FsResult<NativeFile> {
        self.open_file(name, OFlags::RDONLY)
    }

    fn open_for_update(&self, name: &str) -> FsResult<NativeFile> {
        self.open_file(name, OFlags::RDWR)
    }

    fn create(&self, name: &str) -> FsResult<NativeFile> {
        self.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    fn link(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        rustix::fs::linkat(&self.fd, name, &to.fd, new_name, AtFlags::empty()).map_err(error)
    }

    fn rename(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        rustix::fs::renameat(&self.fd, name, &to.fd, new_name).map_err(error)
    }

    fn unlink(&self, name: &str) -> FsResult<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(error)
    }

    fn sync(&self) -> FsResult<()> {
        rustix::fs::fsync(&self.fd).map_err(error)
    }
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

fn error(errno: Errno) -> FsError {
    FsError::new(match errno {
        // A file that a peer removed on a network file system.
        Errno::NOENT | Errno::STALE => FsErrorKind::NotFound,
        Errno::EXIST => FsErrorKind::Exists,
        Errno::NOTDIR | Errno::ISDIR | Errno::LOOP => FsErrorKind::WrongType,
        Errno::ACCESS => FsErrorKind::Access,
        Errno::PERM => FsErrorKind::NotPermitted,
        Errno::ROFS => FsErrorKind::ReadOnly,
        Errno::NOSPC | Errno::DQUOT => FsErrorKind::NoSpace,
        Errno::FBIG => FsErrorKind::TooLarge,
        Errno::OPNOTSUPP | Errno::NOSYS => FsErrorKind::Unsupported,
        Errno::MLINK => FsErrorKind::TooManyLinks,
        Errno::INTR => FsErrorKind::Interrupted,
        Errno::INVAL => FsErrorKind::Invalid,
        Errno::NOMEM | Errno::MFILE | Errno::NFILE => FsErrorKind::Exhausted,
        _ => FsErrorKind::Io,
    })
}
