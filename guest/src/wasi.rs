//! [`Dir`] over WASI 0.2 descriptors, and [`System`] over WASI and the `process` import.
//!
//! `read` and `write` of descriptors are a plain pread and pwrite; no streams. What [`files`] does in one
//! call is done in steps where the host does not. To run on hosts that implement WASI in part, `open-at`
//! never asks for `mutate-directory` or synchronised writes, and the preopened directory is opened once
//! more as `.` before it is listed or synchronised.

use crate::bindings::insomnia::consolidation::files::{self, CreateError};
use crate::bindings::insomnia::consolidation::process;
use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::bindings::wasi::filesystem::preopens;
use crate::bindings::wasi::filesystem::types::{
    Datetime, Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};
use crate::bindings::wasi::random;
use crate::fs::{
    self, Content, Dir, File, FsError, FsErrorKind, FsResult, Kind, Listed, NotCreated, Stat, Time,
};
use crate::prelude::*;
use crate::system::{Evidence, Identity, ProcessState, Scope, System};

/// An open directory.
pub(crate) struct WasiDir {
    descriptor: Descriptor,
    /// Opening a directory in it may wait for what is none: see `files` in `wit/`.
    look_first: bool,
}

/// An open file.
pub(crate) struct WasiFile(Descriptor);

impl WasiDir {
    /// The workspace root: the first preopened directory.
    pub(crate) fn root() -> FsResult<Self> {
        let Some((root, _)) = preopens::get_directories().into_iter().next() else {
            return Err(FsError { kind: FsErrorKind::NotFound, detail: "the host preopened no directory" });
        };
        WasiDir { descriptor: root, look_first: !files::refuses_non_directories() }.open_dir(".")
    }

    fn open_at(&self, name: &str, open: OpenFlags, flags: DescriptorFlags) -> FsResult<Descriptor> {
        // No SYMLINK_FOLLOW: O_NOFOLLOW.
        self.descriptor.open_at(PathFlags::empty(), name, open, flags).map_err(error)
    }

    /// Once or twice.
    fn list_by(&self, twice: bool, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        let mut tell = |names: &files::Names| {
            for (name, type_) in names.text.split_terminator('/').zip(&names.kinds) {
                each(if name.is_empty() { Listed::NotUtf8 } else { Listed::Named(name, kind(*type_)) });
            }
        };
        let rest = match files::list_directory(&self.descriptor, twice) {
            Ok(beginning) => {
                beginning.names.iter().for_each(&mut tell);
                beginning.rest
            }
            Err(ErrorCode::Unsupported) => {
                if twice {
                    self.list_in_steps(each)?;
                }
                return self.list_in_steps(each);
            }
            Err(code) => return Err(error(code)),
        };
        let Some(rest) = rest else { return Ok(()) };
        loop {
            match rest.next().map_err(error)? {
                Some(names) => tell(&names),
                None => return Ok(()),
            }
        }
    }

    /// One call for each name, on hosts that can't do more in one.
    fn list_in_steps(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        let stream = self.descriptor.read_directory().map_err(error)?;
        loop {
            match stream.read_directory_entry() {
                Ok(None) => return Ok(()),
                Ok(Some(entry)) => each(Listed::Named(&entry.name, kind(entry.type_))),
                Err(ErrorCode::IllegalByteSequence) => each(Listed::NotUtf8),
                // Hosts look at each name after they have read it; this one vanished in between.
                Err(ErrorCode::NoEntry) => {}
                Err(code) => return Err(error(code)),
            }
        }
    }
}

impl File for WasiFile {
    fn read(&self, len: usize, offset: u64) -> FsResult<Vec<u8>> {
        self.0.read(len as u64, offset).map(|(bytes, _)| bytes).map_err(error)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> FsResult<usize> {
        let written = self.0.write(bytes, offset).map_err(error)?;
        Ok(usize::try_from(written).unwrap_or(bytes.len()).min(bytes.len()))
    }

    fn sync(&self) -> FsResult<()> {
        self.0.sync().map_err(error)
    }
}

impl Dir for WasiDir {
    type File = WasiFile;

    fn open_dir(&self, name: &str) -> FsResult<Self> {
        if self.look_first && self.stat(name)?.kind != Kind::Directory {
            return Err(FsError::new(FsErrorKind::WrongType));
        }
        let descriptor = self.open_at(name, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
        Ok(WasiDir { descriptor, look_first: self.look_first })
    }

    fn open_nested(&self, name: &str, nested: &str) -> FsResult<(Self, Self)> {
        let opened = |descriptor| WasiDir { descriptor, look_first: self.look_first };
        match files::open_nested(&self.descriptor, name, nested) {
            Ok((dir, nested)) => Ok((opened(dir), opened(nested))),
            Err(ErrorCode::Unsupported) => fs::open_nested_in_steps(self, name, nested),
            Err(code) => Err(error(code)),
        }
    }

    fn create_dir(&self, name: &str) -> FsResult<()> {
        self.descriptor.create_directory_at(name).map_err(error)
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        self.list_by(false, each)
    }

    fn list_twice(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        self.list_by(true, each)
    }

    fn stat(&self, name: &str) -> FsResult<Stat> {
        let stat = self.descriptor.stat_at(PathFlags::empty(), name).map_err(error)?;
        let time =
            |time: Datetime| Time::new(i64::try_from(time.seconds).unwrap_or(i64::MAX), time.nanoseconds);
        Ok(Stat {
            kind: kind(stat.type_),
            size: stat.size,
            modified: stat.data_modification_timestamp.map(time),
            changed: stat.status_change_timestamp.map(time),
        })
    }

    fn open(&self, name: &str) -> FsResult<WasiFile> {
        self.open_at(name, OpenFlags::empty(), DescriptorFlags::READ).map(WasiFile)
    }

    fn open_for_update(&self, name: &str) -> FsResult<WasiFile> {
        self.open_at(name, OpenFlags::empty(), DescriptorFlags::READ | DescriptorFlags::WRITE).map(WasiFile)
    }

    fn create(&self, name: &str) -> FsResult<WasiFile> {
        self.open_at(name, OpenFlags::CREATE | OpenFlags::EXCLUSIVE, DescriptorFlags::WRITE).map(WasiFile)
    }

    fn read_file(&self, name: &str, limit: u64) -> FsResult<Content> {
        match files::read_file(&self.descriptor, name, limit) {
            Ok(files::Content::Whole(content)) => Ok(Content::Whole(content)),
            Ok(files::Content::TooLarge(begin)) => Ok(Content::TooLarge(begin)),
            Ok(files::Content::NotAFile(type_)) => Ok(Content::NotAFile(kind(type_))),
            Err(ErrorCode::Unsupported) => fs::read_in_steps(self, name, limit),
            Err(code) => Err(error(code)),
        }
    }

    fn create_file(&self, name: &str, content: &[u8], synchronise: bool) -> Result<(), NotCreated> {
        match files::create_file(&self.descriptor, name, content, synchronise) {
            Err(CreateError::NotCreated(ErrorCode::Unsupported)) => {
                fs::create_in_steps(self, name, content, synchronise)
            }
            created => created.map_err(not_created),
        }
    }

    fn replace_file(
        &self,
        temporary: &str,
        name: &str,
        content: &[u8],
        synchronise: bool,
    ) -> Result<(), NotCreated> {
        match files::replace_file(&self.descriptor, temporary, name, content, synchronise) {
            Err(CreateError::NotCreated(ErrorCode::Unsupported)) => {
                fs::replace_in_steps(self, temporary, name, content, synchronise)
            }
            replaced => replaced.map_err(not_created),
        }
    }

    fn link(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        self.descriptor.link_at(PathFlags::empty(), name, &to.descriptor, new_name).map_err(error)
    }

    fn rename(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        self.descriptor.rename_at(name, &to.descriptor, new_name).map_err(error)
    }

    fn unlink(&self, name: &str) -> FsResult<()> {
        self.descriptor.unlink_file_at(name).map_err(error)
    }

    fn sync(&self) -> FsResult<()> {
        self.descriptor.sync().map_err(error)
    }
}

fn kind(kind: DescriptorType) -> Kind {
    match kind {
        DescriptorType::RegularFile => Kind::File,
        DescriptorType::Directory => Kind::Directory,
        DescriptorType::SymbolicLink => Kind::Symlink,
        _ => Kind::Other,
    }
}

fn not_created(failed: CreateError) -> NotCreated {
    match failed {
        CreateError::NotCreated(code) => NotCreated::NoName(error(code)),
        CreateError::NotWritten(code) => NotCreated::NotWhole(error(code)),
        CreateError::NotRenamed(code) => NotCreated::NotRenamed(error(code)),
    }
}

fn error(code: ErrorCode) -> FsError {
    FsError::new(match code {
        ErrorCode::NoEntry => FsErrorKind::NotFound,
        ErrorCode::Exist => FsErrorKind::Exists,
        ErrorCode::NotDirectory | ErrorCode::IsDirectory | ErrorCode::Loop => FsErrorKind::WrongType,
        ErrorCode::Access => FsErrorKind::Access,
        ErrorCode::NotPermitted => FsErrorKind::NotPermitted,
        ErrorCode::ReadOnly => FsErrorKind::ReadOnly,
        ErrorCode::InsufficientSpace | ErrorCode::Quota => FsErrorKind::NoSpace,
        ErrorCode::FileTooLarge => FsErrorKind::TooLarge,
        ErrorCode::Unsupported => FsErrorKind::Unsupported,
        ErrorCode::TooManyLinks => FsErrorKind::TooManyLinks,
        ErrorCode::Interrupted => FsErrorKind::Interrupted,
        ErrorCode::Invalid => FsErrorKind::Invalid,
        ErrorCode::InsufficientMemory => FsErrorKind::Exhausted,
        _ => FsErrorKind::Io,
    })
}

/// The world outside, through WASI and the host.
#[derive(Clone, Debug)]
pub(crate) struct WasiSystem;

impl System for WasiSystem {
    fn now(&self) -> Time {
        let now = wall_clock::now();
        Time::new(i64::try_from(now.seconds).unwrap_or(i64::MAX), now.nanoseconds)
    }

    fn sleep_ms(&self, milliseconds: u32) {
        monotonic_clock::subscribe_duration(u64::from(milliseconds) * 1_000_000).block();
    }

    fn random(&self, bytes: &mut [u8]) {
        let drawn = random::random::get_random_bytes(bytes.len() as u64);
        for (byte, drawn) in bytes.iter_mut().zip(drawn) {
            *byte = drawn;
        }
    }

    fn pid(&self) -> u32 {
        process::current_pid()
    }

    fn current(&self) -> Identity {
        let current = process::current();
        Identity {
            pid: current.pid,
            start: current.start,
            scope: Scope {
                machine: current.scope.machine,
                boot: current.scope.boot,
                pid_namespace: current.scope.pid_namespace,
            },
        }
    }

    fn inspect(&self, pid: u32) -> Evidence {
        let evidence = process::inspect(pid);
        Evidence {
            state: match evidence.state {
                process::State::Absent => ProcessState::Absent,
                process::State::Running => ProcessState::Running,
                process::State::Zombie => ProcessState::Zombie,
            },
            start: evidence.start,
            started_at_ms: evidence.started_at_ms,
        }
    }

    fn group_alive(&self, pgid: u32) -> bool {
        process::group_alive(pgid)
    }
}
