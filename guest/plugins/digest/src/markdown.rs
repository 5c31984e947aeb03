//! Texts as single lines of Markdown. Invariant: whatever a text holds, its line is one item of a bullet
//! list, and nothing in it begins another block (CommonMark 0.31). Markup within the line stays.

use crate::slug::hash;

/// The text on one line: white space and control characters become single spaces, none at the ends.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}

/// At most so many bytes of it, with `...` at the end if there were more.
pub fn clip(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.into();
    }
    let end = text.floor_char_boundary(max_bytes.saturating_sub(3));
    format!("{}...", text[..end].trim_end())
}

/// How many bytes say which piece of which item this is.
const MAX_TAG: usize = 40;

/// A list item as it is, or, if it has more bytes than that, as several. Each says which piece it is, and of what:
/// no two items have one in common, so that each is there as a whole or not at all.
pub fn pieces(line: String, max_bytes: usize) -> Vec<String> {
    if line.len() <= max_bytes {
        return vec![line];
    }
    let room = max_bytes - MAX_TAG;
    let mut parts = Vec::new();
    let mut rest = line.strip_prefix("- ").unwrap_or(&line);
    while rest.len() > room {
        let most = rest.floor_char_boundary(room);
        // Between words, unless one is longer than half of it.
        let end = rest[..most].rfind(' ').filter(|at| *at > most / 2).unwrap_or(most);
        parts.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    parts.push(rest);
    let (count, hash) = (parts.len(), hash(&line));
    (1..).zip(parts).map(|(number, part)| item(&format!("({number}/{count} of {hash}) {part}"))).collect()
}

/// The line, without its end, of a list item with this text, which is one line already.
pub fn item(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 3);
    line.push_str("- ");
    match marker(text) {
        Some(at) => {
            line.push_str(&text[..at]);
            line.push('\\');
            line.push_str(&text[at..]);
        }
        None => line.push_str(text),
    }
    line
}

/// Where a backslash has to stand so that the text doesn't begin a block.
fn marker(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let run = text.chars().take_while(|c| *c == first).count();
    let ends_word = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    let only = || text.chars().all(|c| c == first || c == ' ');
    let begins = match first {
        // A quotation; HTML, of which a comment would hide the text.
        '>' | '<' => true,
        '#' => run <= 6 && ends_word(&text[run..]),
        // A list, or a rule across the page: with the marker of the item `--` is one too.
        '-' | '+' | '*' => ends_word(&text[1..]) || only(),
        '_' => only(),
        '`' | '~' => run >= 3,
        // A definition of a link, which isn't shown at all; a box to tick.
        '[' => text.contains("]:") || ["[ ]", "[x]", "[X]"].iter().any(|tick| text.starts_with(tick)),
        '0'..='9' => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let rest = &text[digits..];
            return (digits <= 9 && rest.starts_with(['.', ')']) && ends_word(&rest[1..])).then_some(digits);
        }
        _ => false,
    };
    begins.then_some(0)
}
