//! What a plugin says: its messages and what it prints. Invariant: at most so many bytes in the life of a
//! plugin, whatever became of its instances; a line is one event, clipped, without control characters.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tracing::Level;

/// How many bytes of a line are shown.
const MAX_LINE: usize = 4 << 10;
/// What an event costs beside its text, so that empty lines are not free.
const LINE_COST: u64 = 64;
/// How much of what was printed last is kept for the message of a trap.
const MAX_TAIL: usize = 4 << 10;

pub(super) struct Log {
    file: String,
    name: OnceLock<String>,
    budget: Mutex<Budget>,
}

struct Budget {
    left: u64,
    /// It was said that lines are dropped.
    said: bool,
}

impl Log {
    pub(super) fn new(file: &str, max_bytes: u64) -> Log {
        Log {
            file: file.to_owned(),
            name: OnceLock::new(),
            budget: Mutex::new(Budget { left: max_bytes, said: false }),
        }
    }

    /// What the plugin calls itself; until then its file stands for it.
    pub(super) fn set_name(&self, name: &str) {
        let _ = self.name.set(name.to_owned());
    }

    /// Says a message: each of its lines is an event.
    pub(super) fn say(&self, level: Level, message: &[u8]) {
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        for line in message.split(|byte| *byte == b'\n') {
            // A gigabyte of empty lines is not worth going through.
            if !self.line(level, line) {
                return;
            }
        }
    }

    /// Says a line; false if the limit is reached.
    fn line(&self, level: Level, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = printable(line);
        let plugin = self.name.get().unwrap_or(&self.file);
        {
            let mut budget = lock(&self.budget);
            match budget.left.checked_sub(LINE_COST + text.len() as u64) {
                Some(left) => budget.left = left,
                None => {
                    budget.left = 0;
                    if !std::mem::replace(&mut budget.said, true) {
                        tracing::warn!(
                            target: "plugin",
                            plugin,
                            "it says more than it may; further lines are dropped (PluginOptions::max_log_bytes)"
                        );
                    }
                    return false;
                }
            }
        }
        match level {
            Level::ERROR => tracing::error!(target: "plugin", plugin, "{text}"),
            Level::WARN => tracing::warn!(target: "plugin", plugin, "{text}"),
            Level::INFO => tracing::info!(target: "plugin", plugin, "{text}"),
            _ => tracing::debug!(target: "plugin", plugin, "{text}"),
        }
        true
    }
}

/// At most [`MAX_LINE`] bytes, control characters escaped.
fn printable(line: &[u8]) -> String {
    let clipped = &line[..line.len().min(MAX_LINE)];
    let mut text = String::with_capacity(clipped.len());
    for char in String::from_utf8_lossy(clipped).chars() {
        match char {
            '\t' => text.push(' '),
            // Also what turns the direction of writing around, or has no width.
            char if char.is_control()
                || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                text.extend(char.escape_default());
            }
            char => text.push(char),
        }
    }
    if clipped.len() < line.len() {
        // A character may have been cut in two.
        while text.ends_with(char::REPLACEMENT_CHARACTER) {
            text.pop();
        }
        text.push('…');
    }
    text
}

/// A standard stream: it goes to the log line by line.
#[derive(Clone)]
pub(super) struct Printed {
    log: Arc<Log>,
    level: Level,
    buffer: Arc<Mutex<Buffer>>,
}

#[derive(Default)]
struct Buffer {
    /// The line that has no end yet, and a little more than is shown of it at the most.
    line: Vec<u8>,
    /// The last of what was printed in the call in progress.
    tail: Vec<u8>,
}

impl Printed {
    pub(super) fn new(log: &Arc<Log>, level: Level) -> Printed {
        Printed { log: Arc::clone(log), level, buffer: Arc::default() }
    }

    pub(super) fn write(&self, bytes: &[u8]) {
        let buffer = &mut *lock(&self.buffer);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = (MAX_LINE + 1).saturating_sub(buffer.line.len());
            buffer.line.extend_from_slice(&text[..text.len().min(room)]);
            if is_whole {
                self.log.line(self.level, &buffer.line);
                buffer.line.clear();
            }
        }
        let kept = &bytes[bytes.len().saturating_sub(MAX_TAIL)..];
        buffer.tail.extend_from_slice(kept);
        let excess = buffer.tail.len().saturating_sub(MAX_TAIL);
        buffer.tail.drain(..excess);
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        lock(&self.buffer).tail.clear();
    }

    /// A call is over: a line without an end is one all the same.
    pub(super) fn end(&self) {
        let line = std::mem::take(&mut lock(&self.buffer).line);
        if !line.is_empty() {
            self.log.line(self.level, &line);
        }
    }

    /// The message of a panic, or else the last of what was printed in this call.
    pub(super) fn last_words(&self) -> String {
        let tail = String::from_utf8_lossy(&lock(&self.buffer).tail).into_owned();
        match tail.rfind("panicked at ") {
            Some(panic) => {
                let line = tail[..panic].rfind('\n').map_or(0, |end| end + 1);
                tail[line..].to_owned()
            }
            None => tail,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_clipped_and_escaped() {
        assert_eq!(printable(b"plain \t text"), "plain   text");
        assert_eq!(printable(b"\x1b[31mred\0"), r"\u{1b}[31mred\u{0}");
        assert_eq!(printable("left\u{202e}right".as_bytes()), r"left\u{202e}right");
        assert_eq!(printable(&[0xff, b'a']), "\u{fffd}a");
        let long = "ä".repeat(MAX_LINE);
        let shown = printable(long.as_bytes());
        assert!(shown.len() <= MAX_LINE + '…'.len_utf8() && shown.ends_with("ä…"), "{}", shown.len());
        let odd = format!("x{long}");
        assert!(printable(odd.as_bytes()).ends_with("ä…"));
    }

    #[test]
    fn last_words_are_those_of_the_panic() {
        let printed = Printed::new(&Arc::new(Log::new("file", 1000)), Level::INFO);
        printed.write(b"noise\n");
        printed.write(&b"x".repeat(MAX_TAIL));
        printed.write(b"\nthread 'main' panicked at src/lib.rs:1:2:\noh no\n");
        assert_eq!(printed.last_words(), "thread 'main' panicked at src/lib.rs:1:2:\noh no\n");
        printed.begin();
        assert_eq!(printed.last_words(), "");
    }
}
