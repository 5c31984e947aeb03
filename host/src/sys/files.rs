//! Calls on descriptors of files and directories. Invariant: a name is one component and is not followed
//! if it is a symbolic link; the one call that takes more than that, [`open`], has the kernel resolve it
//! beneath the directory. Nothing here waits for what is not a file: a named pipe is opened without
//! waiting for its other end.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// Names in one listing call to the kernel: about 500 of them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LISTING_BYTES: usize = 32 * 1024;

/// Opens a directory by its path, for everybody who then names files in it.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Is it one component that does not lead upwards? `.` is one.
pub(crate) fn is_plain(name: &str) -> bool {
    // To its end whatever is met: names are short, and many bytes are looked at at a time.
    let separates = name.bytes().fold(false, |met, byte| met | (byte == b'/') | (byte == 0));
    !name.is_empty() && name != ".." && !separates
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    /// A symbolic link at the end of the path is followed, if it leads to something beneath the directory.
    pub(crate) follow: bool,
}

/// Opens a file or a directory beneath one.
pub(crate) fn open(directory: impl AsFd, path: &str, how: How) -> Result<OwnedFd> {
    let directory = directory.as_fd();
    let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
    flags |= match (how.read, how.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    flags.set(OFlags::CREATE, how.create);
    flags.set(OFlags::EXCL, how.exclusive);
    flags.set(OFlags::TRUNC, how.truncate);
    flags.set(OFlags::DIRECTORY, how.directory);
    flags.set(OFlags::NOFOLLOW, !how.follow);
    match resolve(directory, path, flags | OFlags::NONBLOCK, how) {
        // A file that another process has a lease on (`fcntl(2)`, F_SETLEASE): whoever does not want to
        // wait for it to give the lease up is refused. It must be a file for sure before it is waited for.
        Err(Errno::WOULDBLOCK) if is_plain(path) && is_file(directory, path) => {
            resolve(directory, path, flags, how)
        }
        other => other,
    }
}

/// Opens a directory, and a directory in that one, each by a single name.
pub(crate) fn open_nested(directory: impl AsFd, name: &str, nested: &str) -> Result<(OwnedFd, OwnedFd)> {
    let how = How { read: true, directory: true, ..How::default() };
    let directory = open(directory, plain(name)?, how)?;
    let nested = open(&directory, plain(nested)?, how)?;
    Ok((directory, nested))
}

fn is_file(directory: BorrowedFd<'_>, name: &str) -> bool {
    stat(directory, name).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn resolve(directory: BorrowedFd<'_>, path: &str, flags: OFlags, how: How) -> Result<OwnedFd> {
    let mode = if how.create { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    if is_plain(path) && !how.follow {
        return rustix::fs::openat(directory, path, flags, mode);
    }
    beneath(directory, path, flags, mode)
}

/// Has the kernel resolve a path that may have several components and links (`openat2(2)`).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn beneath(directory: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    /// A rename somewhere on the machine while `..` is being resolved has the kernel ask for another try.
    const TRIES: usize = 8;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = rustix::fs::openat2(directory, path, flags, mode, resolve);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    match result {
        // It leads outside; or there is no such call, and nothing else resolves a path safely.
        Err(Errno::XDEV | Errno::NOSYS) => Err(Errno::PERM),
        other => other,
    }
}

/// No call resolves a path safely.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn beneath(_directory: BorrowedFd<'_>, _path: &str, _flags: OFlags, _mode: Mode) -> Result<OwnedFd> {
    Err(Errno::PERM)
}

/// The name, if it is a plain one.
fn plain(name: &str) -> Result<&str> {
    match is_plain(name) {
        true => Ok(name),
        false if name.is_empty() => Err(Errno::NOENT),
        false => Err(Errno::PERM),
    }
}

/// Looks at a name.
pub(crate) fn stat(directory: impl AsFd, name: &str) -> Result<Stat> {
    rustix::fs::statat(directory, plain(name)?, AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn create_directory(directory: impl AsFd, name: &str) -> Result<()> {
    rustix::fs::mkdirat(directory, plain(name)?, Mode::from_raw_mode(0o777))
}

pub(crate) fn link(from: impl AsFd, name: &str, to: impl AsFd, new_name: &str) -> Result<()> {
    rustix::fs::linkat(from, plain(name)?, to, plain(new_name)?, AtFlags::empty())
}

pub(crate) fn rename(from: impl AsFd, name: &str, to: impl AsFd, new_name: &str) -> Result<()> {
    rustix::fs::renameat(from, plain(name)?, to, plain(new_name)?)
}

pub(crate) fn unlink(directory: impl AsFd, name: &str) -> Result<()> {
    rustix::fs::unlinkat(directory, plain(name)?, AtFlags::empty())
}

pub(crate) fn sync(file: impl AsFd) -> Result<()> {
    rustix::fs::fsync(file)
}

/// Reads at most so many bytes.
pub(crate) fn read(file: impl AsFd, len: usize, offset: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    if len > 0 {
        rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), offset)?;
    }
    Ok(bytes)
}

pub(crate) fn write(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize> {
    rustix::io::pwrite(file, bytes, offset)
}

/// What stands where a regular file should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Whole(Vec<u8>),
    /// It has more bytes than the limit. How it begins.
    TooLarge(Vec<u8>),
    NotAFile(FileType),
}

/// How much is read of a file that is too large, to say what it is.
const BEGINNING: u64 = 4 * 1024;
/// How much one read takes where it is not known how much there is.
const CHUNK: u64 = 64 * 1024;

/// Reads a whole regular file of so many bytes at the most. It is looked at before it is opened, and the size
/// tells a whole read from a short one.
pub(crate) fn read_whole(directory: impl AsFd, name: &str, limit: u64) -> Result<Content> {
    let directory = directory.as_fd();
    let stat = stat(directory, name)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        return Ok(Content::NotAFile(kind));
    }
    let file = open(directory, name, How { read: true, ..How::default() })?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut content: Vec<u8> = Vec::new();
    loop {
        let done = content.len() as u64;
        if done > limit || size > limit && done >= BEGINNING {
            return Ok(Content::TooLarge(content));
        }
        let ask = match size {
            _ if size > limit => BEGINNING - done,
            // One byte more than there should be, so that a file that grew is noticed.
            _ if done < size => size - done + 1,
            _ => CHUNK,
        };
        content.reserve_exact(usize::try_from(ask).unwrap_or(usize::MAX));
        let read = match rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut content), done) {
            Err(Errno::INTR) => continue,
            other => other? as u64,
        };
        if read == 0 || done + read == size && read < ask {
            return Ok(if size > limit { Content::TooLarge(content) } else { Content::Whole(content) });
        }
    }
}

/// Why there is no new file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotCreated {
    /// The name was not made.
    NoName(Errno),
    /// The name is there; what is in it is not whole, or not synchronised.
    NotWhole(Errno),
    /// It is whole, and did not get its other name.
    NotRenamed(Errno),
}

/// Creates a file that does not exist yet, with this content.
pub(crate) fn create_whole(
    directory: impl AsFd,
    name: &str,
    content: &[u8],
    synchronise: bool,
) -> std::result::Result<(), NotCreated> {
    let how = How { write: true, create: true, exclusive: true, ..How::default() };
    let file = open(directory, name, how).map_err(NotCreated::NoName)?;
    let mut done = 0;
    while done < content.len() {
        match write(&file, &content[done..], done as u64) {
            // A write of nothing would go on for ever.
            Ok(0) => return Err(NotCreated::NotWhole(Errno::NOSPC)),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(NotCreated::NotWhole(error)),
        }
    }
    if synchronise {
        sync(&file).map_err(NotCreated::NotWhole)?;
    }
    Ok(())
}

/// Creates a file as [`create_whole`] and renames it, over another one if there is one.
pub(crate) fn replace(
    directory: impl AsFd + Copy,
    temporary: &str,
    name: &str,
    content: &[u8],
    synchronise: bool,
) -> std::result::Result<(), NotCreated> {
    create_whole(directory, temporary, content, synchronise)?;
    rename(directory, temporary, directory, name).map_err(NotCreated::NotRenamed)
}

/// A name in a directory and what it stands for; no name if it is not UTF-8.
pub(crate) type Listed = (Option<String>, FileType);

/// Where the kernel writes names. It goes from one listing to the next: memory of this size goes back to the
/// system when it is freed, and has to be asked for, and cleared by the kernel, each time.
#[derive(Default)]
pub(crate) struct ListingBuffer(#[cfg(any(target_os = "linux", target_os = "android"))] Vec<u8>);

/// A listing that goes on where the last call ended.
pub(crate) struct Listing {
    directory: Arc<OwnedFd>,
    buffer: ListingBuffer,
    /// Behind its end it goes on from its start.
    goes_on: bool,
    /// Names that were read and not handed out.
    read: std::collections::VecDeque<Listed>,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    names: rustix::fs::Dir,
}

impl Listing {
    /// Of the whole directory, from its start, whoever else lists it. `buffer` is that of an earlier one, or
    /// empty.
    pub(crate) fn new(directory: &Arc<OwnedFd>, buffer: ListingBuffer) -> Result<Listing> {
        // Where a listing is belongs to the open descriptor: two at a time would share it. One after
        // the other takes a seek, which is a third of the time of opening and closing another one.
        let directory = if Arc::strong_count(directory) == 1 {
            rustix::fs::seek(directory, SeekFrom::Start(0))?;
            directory.clone()
        } else {
            Arc::new(open(directory, ".", How { read: true, directory: true, ..How::default() })?)
        };
        Ok(Listing {
            buffer,
            goes_on: false,
            read: std::collections::VecDeque::new(),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            names: rustix::fs::Dir::read_from(&directory)?,
            directory,
        })
    }

    /// The next name but `.` and `..`; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Listed>> {
        if self.read.is_empty() {
            self.read = self.next_names()?.into();
        }
        Ok(self.read.pop_front())
    }

    /// The next names but `.` and `..`, as many as one call to the kernel gives; none at the end.
    pub(crate) fn next_names(&mut self) -> Result<Vec<Listed>> {
        if !self.read.is_empty() {
            return Ok(std::mem::take(&mut self.read).into());
        }
        loop {
            let mut names = self.next_raw()?;
            if names.is_empty() {
                if std::mem::take(&mut self.goes_on) {
                    self.rewind()?;
                    continue;
                }
                return Ok(names);
            }
            if names.iter().any(|(name, kind)| name.is_some() && *kind == FileType::Unknown) {
                names = self.look_at(names)?;
            }
            if !names.is_empty() {
                return Ok(names);
            }
        }
    }

    /// Has it go on from its start, once, when it has come to its end.
    pub(crate) fn go_on_from_start(&mut self) {
        self.goes_on = true;
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn rewind(&mut self) -> Result<()> {
        rustix::fs::seek(&self.directory, SeekFrom::Start(0)).map(drop)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn rewind(&mut self) -> Result<()> {
        self.names.rewind();
        Ok(())
    }

    /// Some file systems don't tell the type with the name.
    fn look_at(&self, mut names: Vec<Listed>) -> Result<Vec<Listed>> {
        let mut failed = Ok(());
        names.retain_mut(|(name, kind)| match name {
            Some(name) if *kind == FileType::Unknown => match stat(&self.directory, name) {
                Ok(stat) => {
                    *kind = FileType::from_raw_mode(stat.st_mode);
                    true
                }
                Err(error) => {
                    // One that vanished in between is no name any more.
                    if error != Errno::NOENT {
                        failed = Err(error);
                    }
                    false
                }
            },
            _ => true,
        });
        failed.map(|()| names)
    }

    /// Has the names handed out again, before those that follow.
    pub(crate) fn put_back(&mut self, names: Vec<Listed>) {
        self.read = names.into();
    }

    /// What the next listing may use.
    pub(crate) fn into_buffer(self) -> ListingBuffer {
        self.buffer
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn next_raw(&mut self) -> Result<Vec<Listed>> {
        let ListingBuffer(buffer) = &mut self.buffer;
        buffer.reserve_exact(LISTING_BYTES);
        let mut names = Vec::new();
        let mut raw = rustix::fs::RawDir::new(&self.directory, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry?;
            names.extend(listed(entry.file_name(), entry.file_type()));
            // None by now is not the end: there were only `.` and `..`.
            if raw.is_buffer_empty() && !names.is_empty() {
                break;
            }
        }
        Ok(names)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn next_raw(&mut self) -> Result<Vec<Listed>> {
        const NAMES: usize = 500;
        let mut names = Vec::new();
        while names.len() < NAMES
            && let Some(entry) = self.names.read()
        {
            let entry = entry?;
            names.extend(listed(entry.file_name(), entry.file_type()));
        }
        Ok(names)
    }
}

/// None for `.` and `..`; before all else: where types are not told, they are not told of these either.
fn listed(name: &CStr, kind: FileType) -> Option<Listed> {
    match name.to_bytes() {
        b"." | b".." => None,
        _ => Some((name.to_str().ok().map(str::to_owned), kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const READ: How = How {
        read: true,
        write: false,
        create: false,
        exclusive: false,
        truncate: false,
        directory: false,
        follow: false,
    };
    const FOLLOW: How = How { follow: true, ..READ };
    const CREATE: How = How { write: true, create: true, exclusive: true, ..READ };

    /// `inside` with a file and links in it, and `outside` with a secret beside it.
    struct Place {
        dir: TempDir,
        inside: Arc<OwnedFd>,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().expect("a temporary directory");
            for name in ["inside", "inside/deep", "outside"] {
                fs::create_dir(dir.path().join(name)).expect("made");
            }
            fs::write(dir.path().join("inside/file"), "content").expect("written");
            fs::write(dir.path().join("outside/secret"), "secret").expect("written");
            for (link, target) in [("good", "file"), ("bad", "../outside/secret"), ("up", "..")] {
                symlink(target, dir.path().join("inside").join(link)).expect("linked");
            }
            let inside = open_directory(&dir.path().join("inside")).expect("it opens");
            Place { dir, inside: Arc::new(inside) }
        }
    }

    #[test]
    fn name_of_several_components_is_refused_wherever_it_leads() {
        let place = Place::new();
        let inside = &place.inside;
        let absolute = place.dir.path().join("inside/file").to_string_lossy().into_owned();
        for name in ["../outside/secret", "..", "deep/../file", "deep/", "/", "./file", &absolute] {
            assert_eq!(stat(inside, name).map(|_| ()), Err(Errno::PERM), "{name}");
            assert_eq!(unlink(inside, name), Err(Errno::PERM), "{name}");
            assert_eq!(create_directory(inside, name), Err(Errno::PERM), "{name}");
            assert_eq!(link(inside, name, inside, "new"), Err(Errno::PERM), "{name}");
            assert_eq!(link(inside, "file", inside, name), Err(Errno::PERM), "{name}");
            assert_eq!(rename(inside, name, inside, "new"), Err(Errno::PERM), "{name}");
            assert_eq!(rename(inside, "file", inside, name), Err(Errno::PERM), "{name}");
        }
        assert_eq!(stat(inside, "").map(|_| ()), Err(Errno::NOENT));
        assert!(unlink(inside, "file\0/../../outside/secret").is_err());
        assert_eq!(fs::read_dir(place.dir.path().join("outside")).expect("listed").count(), 1);
        assert_eq!(fs::read_dir(place.dir.path().join("inside")).expect("listed").count(), 5);
    }

    #[test]
    fn link_is_followed_only_where_that_is_asked_for_and_never_outside() {
        let place = Place::new();
        let inside = &place.inside;
        assert_eq!(open(inside, "good", READ).map(|_| ()), Err(Errno::LOOP));
        assert_eq!(open(inside, "bad", READ).map(|_| ()), Err(Errno::LOOP));
        assert_eq!(open(inside, "bad", FOLLOW).map(|_| ()), Err(Errno::PERM));
        assert_eq!(open(inside, "up/outside/secret", READ).map(|_| ()), Err(Errno::PERM));
        assert_eq!(open(inside, "../outside/secret", FOLLOW).map(|_| ()), Err(Errno::PERM));
        assert!(open(inside, "bad", CREATE).is_err());
        let kind = |stat: Stat| FileType::from_raw_mode(stat.st_mode);
        assert_eq!(stat(inside, "bad").map(kind), Ok(FileType::Symlink));
        link(inside, "bad", inside, "bad-too").expect("the link itself gets a second name");
        assert_eq!(stat(inside, "bad-too").map(kind), Ok(FileType::Symlink));
        unlink(inside, "bad").expect("the link itself goes");
        assert!(place.dir.path().join("outside/secret").exists());
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn path_that_stays_inside_is_resolved() {
        let place = Place::new();
        for path in ["good", "deep/../file", "./file", "deep/../good"] {
            let file = open(&place.inside, path, FOLLOW).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(read(&file, 100, 0).expect("read"), b"content", "{path}");
        }
    }

    #[test]
    fn named_pipe_is_not_waited_for() {
        let place = Place::new();
        let pipe = place.dir.path().join("inside/pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("there is mkfifo");
        assert!(made.success());
        let opened = open(&place.inside, "pipe", READ).expect("it opens at once");
        assert_eq!(read(&opened, 1, 0), Err(Errno::SPIPE));
        drop(opened);
        assert_eq!(
            open(&place.inside, "pipe", How { write: true, ..How::default() }).map(|_| ()),
            Err(Errno::NXIO)
        );
    }

    #[test]
    fn nested_directory_is_opened_by_two_single_names_and_no_link_is_followed() {
        let place = Place::new();
        let inside = &place.inside;
        fs::create_dir(place.dir.path().join("inside/deep/deeper")).expect("made");
        symlink("deeper", place.dir.path().join("inside/deep/link")).expect("linked");
        let nested = |name, nested| {
            open_nested(inside, name, nested)
                .map(|(dir, nested)| (stat(&dir, "deeper").is_ok(), stat(&nested, "deeper").map(|_| ())))
        };
        assert_eq!(nested("deep", "deeper"), Ok((true, Err(Errno::NOENT))));
        assert_eq!(nested("deep", "missing"), Err(Errno::NOENT));
        assert_eq!(nested("missing", "deeper"), Err(Errno::NOENT));
        assert_eq!(nested("file", "deeper"), Err(Errno::NOTDIR));
        for (name, below) in [("up", "outside"), ("deep", "link")] {
            assert!(matches!(nested(name, below), Err(Errno::LOOP | Errno::NOTDIR)), "{name}/{below}");
        }
        for (name, below) in [("..", "outside"), ("deep", ".."), ("deep/deeper", "."), ("deep", "./deeper")] {
            assert_eq!(nested(name, below), Err(Errno::PERM), "{name}, {below}");
        }
    }

    #[test]
    fn listing_goes_on_from_its_start_once_and_sees_what_was_made_since() {
        let place = Place::new();
        let mut listing = Listing::new(&place.inside, ListingBuffer::default()).expect("it opens");
        listing.go_on_from_start();
        let first = listing.next_names().expect("listed");
        fs::write(place.dir.path().join("inside/later"), "").expect("written");
        let mut second = Vec::new();
        while let Some(name) = listing.next().expect("listed") {
            second.push(name);
        }
        let has =
            |names: &[Listed], name: &str| names.iter().any(|(known, _)| known.as_deref() == Some(name));
        assert_eq!((first.len(), second.len()), (5, 6));
        assert!(has(&first, "file") && has(&second, "file") && has(&second, "later"));
        assert_eq!(listing.next_names(), Ok(Vec::new()));
    }

    #[test]
    fn file_is_created_once_and_read_back_from_any_place() {
        let place = Place::new();
        let file = open(&place.inside, "new", CREATE).expect("it is new");
        assert_eq!(open(&place.inside, "new", CREATE).map(|_| ()), Err(Errno::EXIST));
        assert_eq!(write(&file, b"0123456789", 0), Ok(10));
        assert_eq!(write(&file, b"x", 3), Ok(1));
        sync(&file).expect("synchronised");
        assert_eq!(read(&file, 4, 2).expect("read"), b"2x45");
        assert_eq!(read(&file, 100, 8).expect("read"), b"89");
        assert_eq!(read(&file, 100, 10).expect("read"), b"");
        assert_eq!(read(&file, 0, 0).expect("read"), b"");
        rename(&place.inside, "new", &place.inside, "file").expect("it replaces the other");
        assert_eq!(fs::read(place.dir.path().join("inside/file")).expect("read"), b"012x456789");
    }

    #[test]
    fn whole_file_is_read_and_one_that_is_none_is_not_opened() {
        let place = Place::new();
        let inside = &place.inside;
        let path = |name: &str| place.dir.path().join("inside").join(name);
        let whole = |name: &str, limit| read_whole(inside, name, limit);
        assert_eq!(whole("file", 100), Ok(Content::Whole(b"content".into())));
        assert_eq!(whole("file", 7), Ok(Content::Whole(b"content".into())));
        assert_eq!(whole("file", 6), Ok(Content::TooLarge(b"content".into())));
        fs::write(path("empty"), "").expect("written");
        assert_eq!(whole("empty", 100), Ok(Content::Whole(Vec::new())));
        let large = vec![b'x'; 200_000];
        fs::write(path("large"), &large).expect("written");
        assert_eq!(whole("large", 200_000), Ok(Content::Whole(large.clone())));
        assert_eq!(whole("large", 199_999), Ok(Content::TooLarge(large[..4096].to_vec())));
        assert_eq!(whole("good", 100), Ok(Content::NotAFile(FileType::Symlink)));
        assert_eq!(whole("bad", 100), Ok(Content::NotAFile(FileType::Symlink)));
        assert_eq!(whole("deep", 100), Ok(Content::NotAFile(FileType::Directory)));
        assert_eq!(whole("missing", 100), Err(Errno::NOENT));
        assert_eq!(whole("../outside/secret", 100), Err(Errno::PERM));
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status().expect("there is mkfifo");
        assert!(made.success());
        assert_eq!(whole("pipe", 100), Ok(Content::NotAFile(FileType::Fifo)));
    }

    /// Files of the kernel's own are regular ones of no bytes that have some.
    #[cfg(target_os = "linux")]
    #[test]
    fn file_that_has_more_than_its_size_says_is_read_to_its_end() {
        let proc = Arc::new(open_directory(Path::new("/proc/self")).expect("it opens"));
        let Ok(Content::Whole(status)) = read_whole(&proc, "status", 1 << 20) else { panic!("it is read") };
        assert!(status.starts_with(b"Name:") && status.ends_with(b"\n"));
        assert!(matches!(read_whole(&proc, "status", 10), Ok(Content::TooLarge(_))));
    }

    #[test]
    fn file_is_created_whole_and_a_name_that_is_taken_stays_as_it_is() {
        let place = Place::new();
        let inside = &place.inside;
        for (name, synchronise) in [("one", false), ("two", true)] {
            assert_eq!(create_whole(inside, name, b"new", synchronise), Ok(()));
            assert_eq!(fs::read(place.dir.path().join("inside").join(name)).expect("read"), b"new");
        }
        for name in ["file", "good", "bad", "deep"] {
            assert_eq!(create_whole(inside, name, b"new", false), Err(NotCreated::NoName(Errno::EXIST)));
        }
        assert_eq!(fs::read(place.dir.path().join("inside/file")).expect("read"), b"content");
        assert_eq!(create_whole(inside, "../new", b"new", false), Err(NotCreated::NoName(Errno::PERM)));
        assert!(!place.dir.path().join("new").exists());
    }

    #[test]
    fn file_is_replaced_whole_or_the_old_one_stays() {
        let place = Place::new();
        let (inside, path) = (&place.inside, place.dir.path().join("inside"));
        for (name, synchronise) in [("file", false), ("new", true)] {
            assert_eq!(replace(inside, "temporary", name, b"new", synchronise), Ok(()));
            assert_eq!(fs::read(path.join(name)).expect("read"), b"new");
            assert!(!path.join("temporary").exists());
        }
        // A temporary name that is taken, whatever it stands for, is left.
        for taken in ["file", "good", "bad", "deep"] {
            assert_eq!(
                replace(inside, taken, "other", b"newer", false),
                Err(NotCreated::NoName(Errno::EXIST))
            );
        }
        assert!(!path.join("other").exists());
        // A directory is not replaced, nor is a link followed.
        assert_eq!(
            replace(inside, "temporary", "deep", b"newer", false),
            Err(NotCreated::NotRenamed(Errno::ISDIR))
        );
        assert_eq!(fs::read(path.join("temporary")).expect("it is whole"), b"newer");
        let renamed = replace(inside, "second", "../outside", b"newer", false);
        assert_eq!(renamed, Err(NotCreated::NotRenamed(Errno::PERM)));
        assert!(!place.dir.path().join("outside").is_file());
        assert_eq!(
            replace(inside, "../third", "third", b"newer", false),
            Err(NotCreated::NoName(Errno::PERM))
        );
    }

    #[test]
    fn listing_in_parts_has_every_name_once() {
        let place = Place::new();
        for number in 0..2_000 {
            fs::write(place.dir.path().join(format!("inside/{number:060}")), "").expect("written");
        }
        let mut listing = Listing::new(&place.inside, ListingBuffer::default()).expect("it opens");
        let mut names = std::collections::BTreeSet::new();
        let first = listing.next().expect("listed").expect("there are names");
        names.extend(first.0);
        let part = listing.next_names().expect("listed");
        assert!(part.len() > 100);
        listing.put_back(part);
        loop {
            let part = listing.next_names().expect("listed");
            if part.is_empty() {
                break;
            }
            for (name, _) in part {
                assert!(names.insert(name.expect("UTF-8")), "no name twice");
            }
        }
        assert_eq!(names.len(), 2_005);
        assert!(!names.contains(".") && !names.contains(".."));
        assert_eq!(listing.next_names(), Ok(Vec::new()));
    }

    #[test]
    fn listing_has_every_name_once_and_its_type() {
        use std::collections::BTreeMap;
        use std::os::unix::ffi::OsStrExt as _;
        let place = Place::new();
        let odd = std::ffi::OsStr::from_bytes(b"not-\xff-utf8");
        fs::write(place.dir.path().join("inside").join(odd), "").expect("written");
        // More than one call of the kernel gives.
        for number in 0..2_000 {
            fs::write(place.dir.path().join(format!("inside/{number:060}")), "").expect("written");
        }
        let mut two = [
            Listing::new(&place.inside, ListingBuffer::default()).expect("it opens"),
            Listing::new(&place.inside, ListingBuffer::default()).expect("opens"),
        ];
        let mut listed = [BTreeMap::new(), BTreeMap::new()];
        let mut unnamed = 0;
        // In turn: each goes on where it was.
        while let Some(one) = two[0].next().expect("listed") {
            let other = two[1].next().expect("listed").expect("as many");
            for ((name, kind), listed) in [one, other].into_iter().zip(&mut listed) {
                match name {
                    Some(name) => assert_eq!(listed.insert(name, kind), None),
                    None => unnamed += 1,
                }
            }
        }
        assert_eq!(unnamed, 2);
        assert_eq!(listed[0], listed[1]);
        assert_eq!(listed[0].len(), 2_005);
        assert_eq!(listed[0]["deep"], FileType::Directory);
        assert_eq!(listed[0]["file"], FileType::RegularFile);
        assert_eq!(listed[0]["good"], FileType::Symlink);
        assert_eq!(two[0].next().expect("still at its end"), None);
        drop(two);
        let mut third = Listing::new(&place.inside, ListingBuffer::default()).expect("it opens");
        let again = std::iter::from_fn(|| third.next().expect("listed")).count();
        assert_eq!(again, 2_006, "a listing after others begins at the start");
    }
}
