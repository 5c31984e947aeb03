//! What the command prints and how it exits. Invariant: the only home of the exit codes and of the
//! shape of an error in JSON.

use crate::{Error, ErrorCode, Owner, PluginError};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the results go.
pub(super) struct Output {
    json: bool,
}

/// Why a subcommand failed.
#[derive(Debug)]
pub(super) struct Failure {
    exit: u8,
    code: &'static str,
    message: String,
    cause: Option<String>,
    path: Option<PathBuf>,
    owner: Option<Owner>,
    line: Option<u64>,
    staged: Vec<String>,
    details: Option<serde_json::Value>,
}

impl Failure {
    const FINDINGS: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    const BAD_INPUT: u8 = 65;
    pub(super) const CONSOLIDATOR: u8 = 70;
    const IO: u8 = 74;
    const IN_USE: u8 = 75;

    fn new(exit: u8, code: &'static str, message: impl Into<String>) -> Self {
        Failure {
            exit,
            code,
            message: message.into(),
            cause: None,
            path: None,
            owner: None,
            line: None,
            staged: Vec::new(),
            details: None,
        }
    }

    /// Something is out of order; the result, which is printed already, says what.
    pub(super) fn findings() -> Self {
        Failure::new(Failure::FINDINGS, "findings", "")
    }

    /// Wrong arguments.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Failure::USAGE, "usage", message)
    }

    /// Input that is not what was asked for, with the line where it starts.
    pub(super) fn bad_input(line: Option<u64>, message: impl Into<String>) -> Self {
        Failure { line, ..Failure::new(Failure::BAD_INPUT, "invalid_input", message) }
    }

    /// A command that did not exit 0.
    pub(super) fn consolidator(message: impl Into<String>, details: serde_json::Value) -> Self {
        Failure {
            details: Some(details),
            ..Failure::new(Failure::CONSOLIDATOR, "consolidator_failed", message)
        }
    }

    /// With the cause alone, for the outcome of the run.
    pub(super) fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// A consolidator that wants to be asked again later.
    pub(super) fn temporary(message: impl Into<String>, details: serde_json::Value) -> Self {
        Failure { details: Some(details), ..Failure::new(Failure::IN_USE, "temporary", message) }
    }

    /// Something that is not there.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Failure::new(Failure::IO, ErrorCode::NotFound.as_str(), message)
    }

    /// An error of the command's own input or output.
    pub(super) fn io(message: impl Into<String>) -> Self {
        Failure::new(Failure::IO, "io", message)
    }

    /// What became of what was written to standard output.
    pub(super) fn unless_printed(printed: io::Result<()>) -> Result<(), Failure> {
        match printed {
            // The reader has seen enough, as in `consolidate list | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::io(format!("cannot write to standard output: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// A file that was named on the command line.
    pub(super) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => ErrorCode::NotFound,
            io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
            io::ErrorKind::IsADirectory => ErrorCode::WrongFileType,
            _ => ErrorCode::Io,
        };
        Failure {
            path: Some(path.to_owned()),
            ..Failure::new(Failure::IO, code.as_str(), format!("cannot {doing} {}: {error}", path.display()))
        }
    }

    /// A wait that was broken off.
    pub(super) fn interrupted(message: impl Into<String>) -> Self {
        Failure::new(Failure::IN_USE, "interrupted", message)
    }

    /// With what is staged in spite of the failure.
    pub(super) fn with_staged(mut self, staged: Vec<String>) -> Self {
        self.staged = staged;
        self
    }

    /// With the particulars of another failure.
    pub(super) fn about(mut self, other: Failure) -> Self {
        self.details = other.details;
        self
    }

    /// With its particulars.
    pub(super) fn detailed(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }

    /// With words in front of the message.
    pub(super) fn because(mut self, before: impl Display) -> Self {
        self.message = format!("{before}: {}", self.message);
        self
    }

    /// With what helps, if it is that the lock is in use.
    pub(super) fn if_in_use(self, remedy: impl Display) -> Self {
        if self.code == ErrorCode::InUse.as_str() { self.followed_by(remedy) } else { self }
    }

    /// With words after the message.
    pub(super) fn followed_by(mut self, after: impl Display) -> Self {
        self.message = format!("{}; {after}", self.message);
        self
    }

    /// With another code than the exit code alone tells.
    pub(super) fn coded(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Is it that the lock is not ours?
    pub(super) fn is_about_the_lock(&self) -> bool {
        self.exit == Failure::IN_USE
    }

    /// What is noted in the outcome of the run: the cause, without what holds at this moment only.
    pub(super) fn cause(&self) -> &str {
        self.cause.as_deref().unwrap_or(&self.message)
    }

    /// What is said to people.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code();
        let exit = match code {
            ErrorCode::InUse | ErrorCode::LockLost | ErrorCode::Conflict => Failure::IN_USE,
            ErrorCode::InvalidInput | ErrorCode::Unusable => Failure::BAD_INPUT,
            _ => Failure::IO,
        };
        let message = error.to_string();
        Failure {
            path: error.path().map(Into::into),
            owner: error.owner().cloned(),
            staged: error.staged().to_vec(),
            ..Failure::new(exit, code.as_str(), message)
        }
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        match &error {
            PluginError::Read { path, source } => Failure::file("read the plugin", path, source),
            PluginError::Host { .. } => {
                Failure::new(Failure::IO, ErrorCode::Internal.as_str(), error.to_string())
            }
            _ => Failure::new(Failure::CONSOLIDATOR, "plugin", error.to_string()),
        }
    }
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Output { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: the document, or what `text` writes for people.
    pub(super) fn result(
        &self,
        document: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let print = || {
            let mut out = io::BufWriter::new(io::stdout().lock());
            if self.json {
                serde_json::to_writer(&mut out, document)?;
                writeln!(out)?;
            } else {
                text(&mut out)?;
            }
            out.flush()
        };
        Failure::unless_printed(print())
    }

    /// Prints the result of what is done already, which is told if it can't be printed: nobody should do it
    /// once more.
    pub(super) fn result_of(
        &self,
        done: impl Display,
        document: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        self.result(document, text).map_err(|failure| failure.because(done))
    }

    /// Says something to people, besides the result.
    pub(super) fn note(&self, message: impl Display) {
        // Nothing helps if standard error is closed.
        let _ = writeln!(io::stderr(), "consolidate: {message}");
    }

    fn note_failure(&self, failure: &Failure) {
        self.note(failure.message.trim_end());
        if !failure.staged.is_empty() {
            self.note(format_args!("staged all the same: {}", failure.staged.join(" ")));
        }
    }

    /// Prints a failure and gives its exit code.
    pub(super) fn failure(&self, failure: &Failure) -> ExitCode {
        #[derive(Serialize)]
        struct Document<'a> {
            error: Description<'a>,
        }
        #[derive(Serialize)]
        struct Description<'a> {
            code: &'a str,
            exit: u8,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            path: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            owner: Option<&'a Owner>,
            #[serde(skip_serializing_if = "Option::is_none")]
            line: Option<u64>,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            staged: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            run: Option<&'a serde_json::Value>,
        }
        if failure.exit == Failure::FINDINGS {
            return ExitCode::from(failure.exit);
        }
        if self.json {
            let document = Document {
                error: Description {
                    code: failure.code,
                    exit: failure.exit,
                    message: failure.message.trim_end(),
                    path: failure.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
                    owner: failure.owner.as_ref(),
                    line: failure.line,
                    staged: &failure.staged,
                    run: failure.details.as_ref(),
                },
            };
            // If it can't be written, the words are all that is left: what is done already must not be done
            // once more because nobody knows of it.
            if let Err(unwritten) = self.result(&document, |_| Ok(())) {
                if !failure.message.contains(&unwritten.message) {
                    self.note(&unwritten.message);
                }
                self.note_failure(failure);
            }
        } else {
            self.note_failure(failure);
        }
        ExitCode::from(failure.exit)
    }
}

/// A length of time for people: its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (length, name) in units {
        if rest >= length && parts.len() < 2 {
            parts.push(format!("{} {name}", rest / length));
            rest %= length;
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() { "0 s".into() } else { parts.join(" ") }
}

/// "1 entry", "2 entries".
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A text from outside for one line on a terminal: control characters, and those that turn a text around, are written
/// as escapes.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // They turn the direction of a text: another one is shown than there is.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(character.escape_default());
            }
            other if other.is_control() => out.extend(other.escape_default()),
            other => out.push(other),
        }
    }
    out
}
