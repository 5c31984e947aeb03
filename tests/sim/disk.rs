//! A file system in memory, with what is on the platter beside what programs see. Invariant: after a
//! power loss there is what was synchronised and, of everything else, any part: of the names any subset
//! of the operations (a rename is done or not, never half), of a file's data the old content, the new
//! one, a part of it or zeros.

use consolidation_guest::fs::{FsError, FsErrorKind, FsResult, Kind, Stat, Time};
use std::collections::BTreeMap;

/// A file or a directory, whatever its names.
pub(super) type Ino = usize;

/// The root directory.
pub(super) const ROOT: Ino = 0;

/// In which ways a file system is worse than the best.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quirks {
    /// What `link` answers where there are no hard links.
    pub(super) no_links: Option<FsErrorKind>,
    /// Times of files are multiples of so many milliseconds.
    pub(super) coarse_ms: u32,
    /// What synchronising a directory answers where that can't be done.
    pub(super) no_dir_sync: Option<FsErrorKind>,
    /// A broken one: synchronising a file does nothing.
    pub(super) file_sync_lies: bool,
    /// A broken one: synchronising a directory does nothing.
    pub(super) dir_sync_lies: bool,
    /// A broken one: `link` replaces what has the name.
    pub(super) link_overwrites: bool,
}

impl Quirks {
    pub(super) const NONE: Quirks = Quirks {
        no_links: None,
        coarse_ms: 0,
        no_dir_sync: None,
        file_sync_lies: false,
        dir_sync_lies: false,
        link_overwrites: false,
    };
}

/// See the head of the module.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: Vec<Node>,
    /// Operations on names that are not durable yet, in order.
    journal: Vec<Names>,
    quirks: Quirks,
}

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
    Odd(Kind),
}

#[derive(Clone, Debug)]
struct FileNode {
    data: Vec<u8>,
    modified: Time,
    /// What is on the platter for certain; none: not even that the file is empty.
    synced: Option<(Vec<u8>, Time)>,
    dirty: bool,
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    names: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
}

/// A name in a directory.
type Slot = (Ino, String);

/// An operation on names.
#[derive(Clone, Debug)]
enum Names {
    Add(Slot, Ino),
    Remove(Slot, Ino),
    Move(Slot, Slot, Ino),
}

impl Names {
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        let (one, other) = match self {
            Names::Add(slot, _) | Names::Remove(slot, _) => (slot, None),
            Names::Move(from, to, _) => (from, Some(to)),
        };
        std::iter::once(one).chain(other)
    }
}

fn fail<T>(kind: FsErrorKind) -> FsResult<T> {
    Err(FsError::new(kind))
}

impl Disk {
    /// An empty one.
    pub(super) fn new(quirks: Quirks) -> Self {
        Disk { nodes: vec![Node::Dir(DirNode::default())], journal: Vec::new(), quirks }
    }

    fn dir(&self, ino: Ino) -> &DirNode {
        match &self.nodes[ino] {
            Node::Dir(dir) => dir,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> &mut DirNode {
        match &mut self.nodes[ino] {
            Node::Dir(dir) => dir,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn file(&self, ino: Ino) -> &FileNode {
        match &self.nodes[ino] {
            Node::File(file) => file,
            other => panic!("{other:?} is no file"),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> &mut FileNode {
        match &mut self.nodes[ino] {
            Node::File(file) => file,
            other => panic!("{other:?} is no file"),
        }
    }

    fn kind(&self, ino: Ino) -> Kind {
        match &self.nodes[ino] {
            Node::File(_) => Kind::File,
            Node::Dir(_) => Kind::Directory,
            Node::Odd(kind) => *kind,
        }
    }

    /// A time as the times of files are kept.
    pub(super) fn stamp(&self, now: Time) -> Time {
        match i128::from(self.quirks.coarse_ms) * 1_000_000 {
            0 => now,
            coarse => Time::from_nanos(now.nanos() - now.nanos().rem_euclid(coarse)),
        }
    }

    fn find(&self, dir: Ino, name: &str) -> FsResult<Ino> {
        assert!(!matches!(name, "" | "." | "..") && !name.contains('/'), "{name:?} is no single name");
        self.dir(dir).names.get(name).copied().map_or_else(|| fail(FsErrorKind::NotFound), Ok)
    }

    /// Changes names as programs see them, and keeps in mind that the platter does not know.
    fn change(&mut self, change: Names) {
        match &change {
            Names::Add((dir, name), ino) => {
                self.dir_mut(*dir).names.insert(name.clone(), *ino);
            }
            Names::Remove((dir, name), _) => {
                self.dir_mut(*dir).names.remove(name);
            }
            Names::Move((dir, name), (to, new_name), ino) => {
                self.dir_mut(*dir).names.remove(name);
                self.dir_mut(*to).names.insert(new_name.clone(), *ino);
            }
        }
        self.journal.push(change);
    }

    pub(super) fn open_dir(&self, dir: Ino, name: &str) -> FsResult<Ino> {
        let ino = self.find(dir, name)?;
        if self.kind(ino) == Kind::Directory { Ok(ino) } else { fail(FsErrorKind::WrongType) }
    }

    pub(super) fn create_dir(&mut self, dir: Ino, name: &str) -> FsResult<()> {
        self.add(dir, name, Node::Dir(DirNode::default())).map(drop)
    }

    fn add(&mut self, dir: Ino, name: &str, node: Node) -> FsResult<Ino> {
        if self.find(dir, name).is_ok() {
            return fail(FsErrorKind::Exists);
        }
        self.nodes.push(node);
        let ino = self.nodes.len() - 1;
        self.change(Names::Add((dir, name.into()), ino));
        Ok(ino)
    }

    /// The names in a directory, as they are at this moment.
    pub(super) fn names(&self, dir: Ino) -> BTreeMap<String, Kind> {
        self.dir(dir).names.iter().map(|(name, ino)| (name.clone(), self.kind(*ino))).collect()
    }

    pub(super) fn stat(&self, dir: Ino, name: &str) -> FsResult<Stat> {
        let ino = self.find(dir, name)?;
        Ok(match &self.nodes[ino] {
            Node::File(file) => Stat {
                kind: Kind::File,
                size: file.data.len() as u64,
                modified: Some(file.modified),
                changed: None,
            },
            _ => Stat { kind: self.kind(ino), size: 0, modified: None, changed: None },
        })
    }

    pub(super) fn open(&self, dir: Ino, name: &str) -> FsResult<Ino> {
        let ino = self.find(dir, name)?;
        if self.kind(ino) == Kind::File { Ok(ino) } else { fail(FsErrorKind::WrongType) }
    }

    pub(super) fn create(&mut self, dir: Ino, name: &str, now: Time) -> FsResult<Ino> {
        let modified = self.stamp(now);
        self.add(dir, name, Node::File(FileNode { data: Vec::new(), modified, synced: None, dirty: true }))
    }

    pub(super) fn link(&mut self, dir: Ino, name: &str, to: Ino, new_name: &str) -> FsResult<()> {
        if let Some(kind) = self.quirks.no_links {
            return fail(kind);
        }
        let ino = self.open(dir, name)?;
        if self.find(to, new_name).is_ok() && !self.quirks.link_overwrites {
            return fail(FsErrorKind::Exists);
        }
        self.change(Names::Add((to, new_name.into()), ino));
        Ok(())
    }

    pub(super) fn rename(&mut self, dir: Ino, name: &str, to: Ino, new_name: &str) -> FsResult<()> {
        let ino = self.open(dir, name)?;
        match self.find(to, new_name) {
            Ok(there) if self.kind(there) == Kind::Directory => return fail(FsErrorKind::WrongType),
            // Two names of one file: rename(2) does nothing then.
            Ok(there) if there == ino => return Ok(()),
            _ => {}
        }
        self.change(Names::Move((dir, name.into()), (to, new_name.into()), ino));
        Ok(())
    }

    pub(super) fn unlink(&mut self, dir: Ino, name: &str) -> FsResult<()> {
        let ino = self.find(dir, name)?;
        if self.kind(ino) == Kind::Directory {
            return fail(FsErrorKind::WrongType);
        }
        self.change(Names::Remove((dir, name.into()), ino));
        Ok(())
    }

    pub(super) fn sync_names(&mut self, dir: Ino) -> FsResult<()> {
        if let Some(kind) = self.quirks.no_dir_sync {
            return fail(kind);
        }
        if self.quirks.dir_sync_lies {
            return Ok(());
        }
        // What was done to this directory, and, since a rename between two is one, what was done to the
        // same names of the other one before.
        let mut slots: Vec<Slot> = Vec::new();
        let mut durable = Vec::new();
        let mut rest = Vec::new();
        for change in std::mem::take(&mut self.journal).into_iter().rev() {
            if change.slots().any(|slot| slot.0 == dir || slots.contains(slot)) {
                slots.extend(change.slots().cloned());
                durable.push(change);
            } else {
                rest.push(change);
            }
        }
        durable.iter().rev().for_each(|change| self.keep(change));
        self.journal = rest.into_iter().rev().collect();
        Ok(())
    }

    /// Changes names on the platter.
    fn keep(&mut self, change: &Names) {
        let mut remove = |(dir, name): &Slot, ino: Ino| {
            let durable = &mut self.dir_mut(*dir).durable;
            // It may stand for another file if what lies between is lost.
            if durable.get(name) == Some(&ino) {
                durable.remove(name);
            }
        };
        match change {
            Names::Add(..) => {}
            Names::Remove(slot, ino) | Names::Move(slot, _, ino) => remove(slot, *ino),
        }
        match change {
            Names::Add((dir, name), ino) | Names::Move(_, (dir, name), ino) => {
                self.dir_mut(*dir).durable.insert(name.clone(), *ino);
            }
            Names::Remove(..) => {}
        }
    }

    pub(super) fn read(&self, ino: Ino, len: usize, offset: u64) -> Vec<u8> {
        let data = &self.file(ino).data;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        data[start..data.len().min(start.saturating_add(len))].to_vec()
    }

    pub(super) fn write(&mut self, ino: Ino, bytes: &[u8], offset: u64, now: Time) {
        let modified = self.stamp(now);
        let file = self.file_mut(ino);
        let start = usize::try_from(offset).expect("a small file");
        let end = start + bytes.len();
        if file.data.len() < end {
            file.data.resize(end, 0);
        }
        file.data[start..end].copy_from_slice(bytes);
        file.modified = modified;
        file.dirty = true;
    }

    /// Empties a file. Ours never do that; other programs do.
    pub(super) fn truncate(&mut self, ino: Ino, now: Time) {
        let modified = self.stamp(now);
        let file = self.file_mut(ino);
        file.data.clear();
        file.modified = modified;
        file.dirty = true;
    }

    pub(super) fn sync(&mut self, ino: Ino) {
        if self.quirks.file_sync_lies {
            return;
        }
        let file = self.file_mut(ino);
        file.synced = Some((file.data.clone(), file.modified));
        file.dirty = false;
    }

    /// The power fails and comes back. `pick` chooses one of so many possibilities, again and again;
    /// that it always picks the last one means that nothing is lost.
    pub(super) fn lose_power(&mut self, pick: &mut dyn FnMut(usize) -> usize) {
        for change in std::mem::take(&mut self.journal) {
            if pick(2) == 1 {
                self.keep(&change);
            }
        }
        for node in &mut self.nodes {
            if let Node::Dir(dir) = node {
                dir.names = dir.durable.clone();
            }
        }
        // A file that has no name any more is nobody's concern.
        let mut reachable = Vec::new();
        self.walk(ROOT, "", &mut |_, ino| reachable.push(ino));
        reachable.sort_unstable();
        reachable.dedup();
        for ino in reachable {
            let Node::File(file) = &mut self.nodes[ino] else { continue };
            if file.dirty {
                let (data, modified) = torn(file, pick);
                file.data = data;
                file.modified = modified;
            }
            file.synced = Some((file.data.clone(), file.modified));
            file.dirty = false;
        }
    }

    /// Calls `each` for everything below a directory.
    fn walk(&self, dir: Ino, path: &str, each: &mut dyn FnMut(&str, Ino)) {
        for (name, &ino) in &self.dir(dir).names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            each(&path, ino);
            if self.kind(ino) == Kind::Directory {
                self.walk(ino, &path, each);
            }
        }
    }

    /// The paths of everything, sorted. Those of directories end in a slash.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.walk(ROOT, "", &mut |path, ino| {
            let slash = if self.kind(ino) == Kind::Directory { "/" } else { "" };
            paths.push(format!("{path}{slash}"));
        });
        paths.sort_unstable();
        paths
    }

    fn at(&self, path: &str) -> Option<Ino> {
        path.split('/').try_fold(ROOT, |dir, name| match &self.nodes[dir] {
            Node::Dir(dir) => dir.names.get(name).copied(),
            _ => None,
        })
    }

    /// The content of a file.
    pub(super) fn content(&self, path: &str) -> Option<&[u8]> {
        match &self.nodes[self.at(path)?] {
            Node::File(file) => Some(&file.data),
            _ => None,
        }
    }

    /// Is a file certain to be there, with this content, after a power loss, here or where it was renamed to?
    pub(super) fn is_durable(&self, path: &str) -> bool {
        let ino = path.split('/').try_fold(ROOT, |dir, name| match &self.nodes[dir] {
            Node::Dir(dir) => dir.durable.get(name).copied(),
            _ => None,
        });
        ino.is_some_and(|ino| matches!(&self.nodes[ino], Node::File(file) if !file.dirty))
    }

    /// Does a file that is renamed or removed have this name again if the power is lost?
    pub(super) fn comes_back(&self, path: &str) -> bool {
        let mut names = path.split('/');
        names
            .try_fold(ROOT, |dir, name| match &self.nodes[dir] {
                Node::Dir(dir) => dir.durable.get(name).copied(),
                _ => None,
            })
            .is_some()
    }

    /// When the content of a file changed last.
    pub(super) fn modified(&self, path: &str) -> Option<Time> {
        match &self.nodes[self.at(path)?] {
            Node::File(file) => Some(file.modified),
            _ => None,
        }
    }

    /// Puts something at a path, and the directories above it, for good.
    fn put_node(&mut self, path: &str, node: Node) {
        let mut dir = ROOT;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_some() {
                if self.open_dir(dir, name).is_err() {
                    self.create_dir(dir, name).expect("no file stands there");
                }
                dir = self.open_dir(dir, name).expect("a directory");
                continue;
            }
            self.nodes.push(node);
            let ino = self.nodes.len() - 1;
            self.change(Names::Add((dir, name.into()), ino));
            break;
        }
        for change in std::mem::take(&mut self.journal) {
            self.keep(&change);
        }
    }

    /// Puts a file at a path, for good.
    pub(super) fn put(&mut self, path: &str, content: &[u8], modified: Time) {
        let modified = self.stamp(modified);
        let synced = Some((content.to_vec(), modified));
        let file = FileNode { data: content.to_vec(), modified, synced, dirty: false };
        self.put_node(path, Node::File(file));
    }

    /// Puts something that is no file at a path, for good.
    pub(super) fn put_odd(&mut self, path: &str, kind: Kind) {
        self.put_node(path, Node::Odd(kind));
    }
}

/// What a power loss leaves of a file that was not synchronised.
fn torn(file: &FileNode, pick: &mut dyn FnMut(usize) -> usize) -> (Vec<u8>, Time) {
    let new = &file.data;
    let old = file.synced.clone().unwrap_or((Vec::new(), file.modified));
    if *new == old.0 {
        return if pick(2) == 1 { (new.clone(), file.modified) } else { old };
    }
    let how = pick(5);
    let part = if matches!(how, 1 | 3) {
        let most = new.len();
        [1.min(most), most / 2, most.saturating_sub(2), most.saturating_sub(1)][pick(4)]
    } else {
        0
    };
    let mut data = new[..part].to_vec();
    match how {
        0 => return old,
        1 => {}
        2 | 3 => data.resize(new.len(), 0),
        _ => data.clone_from(new),
    }
    (data, file.modified)
}
