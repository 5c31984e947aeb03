//! The one home of every name in a workspace. Invariant: a name is either built here from checked
//! parts or recognised here byte for byte; nothing that comes out of a file or from a caller ever
//! becomes part of a path unchecked.

use crate::digest::fnv1a;
use crate::prelude::*;
use crate::system::{Identity, Scope};
use core::fmt;

/// The staging directory, in the root.
pub const STAGING: &str = "_staging";
/// The visible lock, in the staging directory.
pub const LOCK: &str = ".consolidation.lock";
/// The visible lock, from the root.
pub const LOCK_PATH: &str = "_staging/.consolidation.lock";
/// Where the lock is put aside for a moment, in the staging directory, so that it can be looked at when
/// nobody writes it any more.
pub const ASIDE: &str = ".consolidation.lock.q";
/// The lock that was put aside, from the root.
pub const ASIDE_PATH: &str = "_staging/.consolidation.lock.q";
/// The owner flags, in the staging directory. Apart from the entries, so that taking the lock costs
/// the same however many entries are staged.
pub const OWNERS: &str = ".owners";
/// The owner flags, from the root.
pub const OWNERS_PATH: &str = "_staging/.owners";
/// How often a consolidator failed on staged entries, in the staging directory. Apart from the entries, so
/// that a listing of them costs the same.
pub const ATTEMPTS: &str = ".attempts";
/// The attempts, from the root.
pub const ATTEMPTS_PATH: &str = "_staging/.attempts";
/// The quarantine, in the staging directory. Not hidden: people are to look at it.
pub const QUARANTINE: &str = "quarantine";
/// The quarantine, from the root.
pub const QUARANTINE_PATH: &str = "_staging/quarantine";
/// Added to the name of a flag for its copy that is renamed over the lock where the file system has
/// no hard links.
pub const PUBLISH_SUFFIX: &str = ".pub";

/// The outcomes of runs, in the root.
pub const RUNS: &str = "runs";
/// Runs that are between their commit and their end, in [`RUNS`]. Apart from the outcomes, so that
/// taking the lock costs the same however many runs there were.
pub const UNFINISHED: &str = ".unfinished";
/// The unfinished runs, from the root.
pub const UNFINISHED_PATH: &str = "runs/.unfinished";

/// What records were before runs changed them, in [`RUNS`].
pub const BEFORE: &str = ".before";
/// What records were before runs changed them, from the root.
pub const BEFORE_PATH: &str = "runs/.before";

/// The path of a name among what records were, from the root, for messages.
pub fn before_path(name: &str) -> String {
    format!("{BEFORE_PATH}/{name}")
}

/// The memory records, in the root.
pub const MEMORY: &str = "memory";

/// The name of a memory record: its kind and its slug. Both are `[a-z0-9][a-z0-9-]{0,63}`: no path in
/// them, and no two of them are one name to a file system that ignores case or normalises Unicode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName {
    kind: String,
    slug: String,
}

impl RecordName {
    /// From its parts; `None` if one of them is not as it must be.
    pub fn parse(kind: &str, slug: &str) -> Option<Self> {
        let good = |text: &str| {
            let bytes = text.as_bytes();
            (1..=64).contains(&bytes.len())
                && bytes[0] != b'-'
                && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        (good(kind) && good(slug)).then(|| RecordName { kind: kind.into(), slug: slug.into() })
    }

    /// The directory of its file.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The name of its file without the ending.
    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// The name of its file in the directory of its kind.
    pub fn file_name(&self) -> String {
        format!("{}.md", self.slug)
    }

    /// The path of its file, from the root.
    pub fn path(&self) -> String {
        format!("{MEMORY}/{}/{}.md", self.kind, self.slug)
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.slug)
    }
}

/// The path of a name among the outcomes, from the root, for messages.
pub fn runs_path(name: &str) -> String {
    format!("{RUNS}/{name}")
}

/// The path of a name among the unfinished runs, from the root, for messages.
pub fn unfinished_path(name: &str) -> String {
    format!("{UNFINISHED_PATH}/{name}")
}

/// The path of a name in the staging directory, from the root, for messages.
pub fn staging_path(name: &str) -> String {
    format!("{STAGING}/{name}")
}

/// The path of a name among the owner flags, from the root, for messages.
pub fn owners_path(name: &str) -> String {
    format!("{OWNERS_PATH}/{name}")
}

/// The path of a name among the attempts, from the root, for messages.
pub fn attempts_path(name: &str) -> String {
    format!("{ATTEMPTS_PATH}/{name}")
}

/// The path of a name in the quarantine, from the root, for messages.
pub fn quarantine_path(name: &str) -> String {
    format!("{QUARANTINE_PATH}/{name}")
}

/// The name of a staging entry: a UUIDv7 (RFC 9562, section 5.7).
///
/// Its text is the canonical one and nothing else: upper case, braces, `urn:uuid:`, missing hyphens
/// and other versions are refused, since a name that is parsed leniently and printed canonically
/// becomes the name of another file.
///
/// Two numbers and not bytes: a million of them are sorted and searched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u64, u64);

/// Eight lower-case hexadecimal digits: all at once, and not with the formatter of the standard library. Names are
/// made and read all the time.
fn digits_of(value: u32) -> [u8; 8] {
    // A digit to each byte, the first one to the lowest: to turn the bytes of a word around takes a component longer
    // than all of this.
    let mut digits = u64::from(value);
    digits = digits >> 16 | (digits & 0xffff) << 32;
    digits = digits >> 8 & 0x0000_00ff_0000_00ff | (digits & 0x0000_00ff_0000_00ff) << 16;
    digits = digits >> 4 & 0x000f_000f_000f_000f | (digits & 0x000f_000f_000f_000f) << 8;
    // Where six more carry into the upper half of a byte, the digit is a letter.
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (digits + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_le_bytes()
}

/// The value of eight hexadecimal digits, and something or other for anything else: whoever must know makes the
/// digits of it and compares.
fn value_of(digits: [u8; 8]) -> u32 {
    let digits = u64::from_le_bytes(digits);
    let letters = digits >> 6 & 0x0101_0101_0101_0101;
    let mut value = (digits & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    value = (value & 0x000f_000f_000f_000f) << 4 | value >> 8 & 0x000f_000f_000f_000f;
    value = (value & 0x0000_00ff_0000_00ff) << 8 | value >> 16 & 0x0000_00ff_0000_00ff;
    (value << 16 | value >> 32) as u32
}

fn text_of(ascii: &[u8]) -> String {
    str::from_utf8(ascii).unwrap_or_default().into()
}

impl EntryId {
    /// How long its text is.
    pub const TEXT_LEN: usize = 36;

    /// From its canonical text; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text: &[u8; Self::TEXT_LEN] = text.as_bytes().try_into().ok()?;
        if [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let four = |at: usize| text[at..].first_chunk::<4>().map_or(0, |digits| u32::from_le_bytes(*digits));
        let eight = |begin: usize, end: usize| {
            let digits = (u64::from(four(begin)) | u64::from(four(end)) << 32).to_le_bytes();
            let value = value_of(digits);
            (digits_of(value) == digits).then_some(u64::from(value))
        };
        let high = eight(0, 4)? << 32 | eight(9, 14)?;
        let low = eight(19, 24)? << 32 | eight(28, 32)?;
        let is_version_7 = high >> 12 & 0xf == 7 && low >> 62 == 0b10;
        is_version_7.then_some(EntryId(high, low))
    }

    /// From the name of a file in the staging directory; `None` if it is no entry's.
    pub fn from_file_name(name: &str) -> Option<Self> {
        Self::parse(name.strip_suffix(".json")?)
    }

    /// From a time in milliseconds and 74 random bits, of which the uppermost 10 bytes are used as
    /// they are (the version and the variant are put over them).
    pub(crate) fn from_parts(millis: u64, random: [u8; 10]) -> Self {
        let [first, second, rest @ ..] = random;
        let high = millis << 16 | 0x7000 | u64::from(u16::from_be_bytes([first, second]) & 0x0fff);
        EntryId(high, u64::from_be_bytes(rest) & (u64::MAX >> 2) | 1 << 63)
    }

    /// Its text, as bytes.
    pub fn digits(self) -> [u8; Self::TEXT_LEN] {
        let mut text = [b'-'; Self::TEXT_LEN];
        let [first, second] = [self.0 >> 32, self.0].map(|half| digits_of(half as u32));
        let [third, fourth] = [self.1 >> 32, self.1].map(|half| digits_of(half as u32));
        text[..8].copy_from_slice(&first);
        text[9..13].copy_from_slice(&second[..4]);
        text[14..18].copy_from_slice(&second[4..]);
        text[19..23].copy_from_slice(&third[..4]);
        text[24..28].copy_from_slice(&third[4..]);
        text[28..].copy_from_slice(&fourth);
        text
    }

    /// Its text, between others: put together where it stands, for the sizes of all are known.
    #[inline(always)]
    fn between<const BEFORE: usize, const AFTER: usize>(
        self,
        before: &[u8; BEFORE],
        after: &[u8; AFTER],
    ) -> String {
        let mut name = [0; 48];
        let len = BEFORE + Self::TEXT_LEN + AFTER;
        name[..BEFORE].copy_from_slice(before);
        name[BEFORE..][..Self::TEXT_LEN].copy_from_slice(&self.digits());
        name[BEFORE + Self::TEXT_LEN..len].copy_from_slice(after);
        text_of(&name[..len])
    }

    /// Its text, as [`ToString`] gives it, in a tenth of the time.
    pub fn text(self) -> String {
        self.between(b"", b"")
    }

    /// The name of its file.
    pub fn file_name(self) -> String {
        self.between(b"", b".json")
    }

    /// The name of the file that says why it is in the quarantine.
    pub fn reason_name(self) -> String {
        format!("{self}.reason.json")
    }

    /// From the name of a file that says why an entry is in the quarantine; `None` for any other name.
    pub fn from_reason_name(name: &str) -> Option<Self> {
        Self::parse(name.strip_suffix(".reason.json")?)
    }

    /// The name under which its file is written, before it is renamed to [`Self::file_name`].
    pub fn temporary_name(self) -> String {
        self.between(b".", b".tmp")
    }

    /// From the name under which a file is written; `None` for any other name.
    pub fn from_temporary_name(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix('.')?.strip_suffix(".tmp")?)
    }

    /// When it was made, in milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The name of a run: a UUIDv7 too. Its outcome is in [`RunId::file_name`].
pub type RunId = EntryId;

/// The new content of a record, among the unfinished runs, until it is renamed over the record. The name
/// is used once, so that of two processes that rename it only one has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewContent {
    /// The run.
    pub run: RunId,
    /// Which of its changes.
    pub index: u32,
}

impl NewContent {
    /// The name of the file.
    pub fn name(self) -> String {
        format!("{}.{}", self.run, self.index)
    }

    /// From the name of a file among the unfinished runs; `None` for any other name.
    pub fn parse(name: &str) -> Option<Self> {
        let (run, index) = name.split_once('.')?;
        let content = NewContent { run: RunId::parse(run)?, index: index.parse().ok()? };
        // `parse` takes "+1" and "007" too.
        (content.name() == name).then_some(content)
    }

    /// Where a record that is to be removed is put aside for a moment.
    pub fn aside_name(self) -> String {
        format!("{}.gone", self.name())
    }

    /// From the name of a record that was put aside.
    pub fn parse_aside(name: &str) -> Option<Self> {
        Self::parse(name.strip_suffix(".gone")?)
    }
}

/// How far an unfinished run has come. The name of its file says it, so that a rename decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// Its owner is about to commit it.
    Open,
    /// It is committed: its entries are consumed, and to be deleted.
    Committed,
    /// A successor found it open. Its owner can't commit it any more.
    Sealed,
}

impl Progress {
    /// All of them.
    pub const ALL: [Progress; 3] = [Progress::Open, Progress::Committed, Progress::Sealed];

    fn suffix(self) -> &'static str {
        match self {
            Progress::Open => ".open",
            Progress::Committed => ".committed",
            Progress::Sealed => ".sealed",
        }
    }

    /// The name of the file of an unfinished run.
    pub fn name(self, run: RunId) -> String {
        format!("{run}{}", self.suffix())
    }

    /// From the name of a file among the unfinished runs; `None` for any other name.
    pub fn parse(name: &str) -> Option<(RunId, Self)> {
        Self::ALL.into_iter().find_map(|progress| {
            let run = RunId::parse(name.strip_suffix(progress.suffix())?)?;
            Some((run, progress))
        })
    }
}

/// What tells one attempt at the lock from every other: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// From random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Token(random)
    }

    /// From 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut token = [0; 16];
        if text.len() != 2 * token.len() {
            return None;
        }
        for (bytes, digits) in token.chunks_exact_mut(4).zip(text.as_bytes().chunks_exact(8)) {
            let value = value_of(digits.try_into().ok()?);
            if digits_of(value) != *digits {
                return None;
            }
            bytes.copy_from_slice(&value.to_be_bytes());
        }
        Some(Token(token))
    }

    /// Its digits.
    pub fn digits(self) -> [u8; 32] {
        let mut text = [0; 32];
        for (digits, part) in text.as_chunks_mut().0.iter_mut().zip(self.0.as_chunks().0) {
            *digits = digits_of(u32::from_be_bytes(*part));
        }
        text
    }

    /// Its digits, as a text.
    pub fn text(self) -> String {
        text_of(&self.digits())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The name of an owner flag. The name alone is the owner's identity: a flag can be judged, and
/// removed, whatever is in the file and however much of it was written.
///
/// `<machine>.<boot>.<pid namespace>.<pid>.<process start>.<token>`, where a part that is unknown is
/// `-` and a part that is not short and alphanumeric is replaced by a digest of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlagName {
    text: String,
    /// The owner's process id.
    pub pid: u32,
    /// The owner's token.
    pub token: Token,
}

/// The parts of a scope and of a process start, as they stand in the names of flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameParts {
    /// The machine.
    pub machine: String,
    /// The boot.
    pub boot: String,
    /// The process-id namespace.
    pub pid_namespace: String,
}

impl NameParts {
    /// Of a scope.
    pub fn of(scope: &Scope) -> Self {
        NameParts {
            machine: name_part(&scope.machine),
            boot: name_part(&scope.boot),
            pid_namespace: name_part(&scope.pid_namespace),
        }
    }
}

/// What stands for an unknown part.
pub const UNKNOWN_PART: &str = "-";

/// The longest text that says who and where a process is, in bytes.
const MAX_IDENTITY_BYTES: usize = 128;

/// As much of a text as is used of it.
pub fn clip(text: &str) -> &str {
    let mut end = text.len().min(MAX_IDENTITY_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// How a text stands in the name of a flag.
pub fn name_part(text: &str) -> String {
    let text = clip(text);
    if text.is_empty() {
        UNKNOWN_PART.into()
    } else if text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        text.into()
    } else {
        // Names must be short; nobody gains by making two machines collide.
        let digest = fnv1a(text.as_bytes());
        text_of(&[b"h", &digits_of((digest >> 32) as u32)[..], &digits_of(digest as u32)].concat())
    }
}

impl FlagName {
    /// Of an owner.
    pub fn new(owner: &Identity, token: Token) -> Self {
        Self::of(&Self::beginning(owner), owner.pid, token)
    }

    /// What the names of all flags of an owner begin with.
    pub(crate) fn beginning(owner: &Identity) -> String {
        let parts = NameParts::of(&owner.scope);
        let (pid, start) = (owner.pid.to_string(), name_part(&owner.start));
        [&*parts.machine, &parts.boot, &parts.pid_namespace, &pid, &start, ""].join(".")
    }

    /// Of the owner with this [beginning](Self::beginning).
    pub(crate) fn of(beginning: &str, pid: u32, token: Token) -> Self {
        FlagName { text: [beginning, &token.text()].concat(), pid, token }
    }

    /// From the name of a file among the flags; `None` if it is no flag's.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        for _ in 0..3 {
            checked_part(parts.next()?)?;
        }
        let pid = parts.next()?;
        let value: u32 = pid.parse().ok()?;
        // `parse` takes "+1" and "007" too.
        if value.to_string() != pid {
            return None;
        }
        checked_part(parts.next()?)?;
        let token = Token::parse(parts.next()?)?;
        parts.next().is_none().then(|| FlagName { text: name.into(), pid: value, token })
    }

    /// The name of the file.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the copy that is renamed over the lock.
    pub fn publish_name(&self) -> String {
        format!("{}{PUBLISH_SUFFIX}", self.text)
    }

    /// The owner's scope, as [`NameParts`].
    pub fn scope(&self) -> NameParts {
        let mut parts = self.text.split('.').map(String::from);
        NameParts {
            machine: parts.next().unwrap_or_default(),
            boot: parts.next().unwrap_or_default(),
            pid_namespace: parts.next().unwrap_or_default(),
        }
    }

    /// When the owner's process started, as [`name_part`] gives it.
    pub fn process_start(&self) -> &str {
        self.text.split('.').nth(4).unwrap_or(UNKNOWN_PART)
    }
}

fn checked_part(part: &str) -> Option<()> {
    let fits = part == UNKNOWN_PART
        || (!part.is_empty() && part.len() <= 20 && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    fits.then_some(())
}
