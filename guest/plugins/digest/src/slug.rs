//! The one home of how a topic becomes the name of a record. Invariant: two topics have one slug only if
//! they differ in nothing but case and in spaces, hyphens or underscores between their words.
//!
//! A plain topic, made of ASCII letters and digits with one such separator between words, becomes its
//! slug: `Use SQLite` is `use-sqlite`. Any other loses something on the way, so it gets a hash of its text
//! as a last word: `C++` is `c-` and eight digits. So does a plain one that ends in a word that could be
//! such a hash or the number of a continuation (`python 2` is not the second part of `python`), or that
//! has to be clipped.

/// How many bytes a slug has at most.
pub const MAX_BYTES: usize = 64;

/// How many bytes of it are the topic. The rest is for a hash and for the number of a part.
const MAX_WORDS: usize = 48;

/// The slug of a topic, which is one line without spaces at its ends ([`crate::markdown::fold`]):
/// `[a-z0-9][a-z0-9-]*`, at most 57 bytes.
pub fn of(topic: &str) -> String {
    let mut words = String::new();
    let mut gap = false;
    for character in topic.chars() {
        let lower = character.to_ascii_lowercase();
        let mut buffer = [0; 4];
        let letters = match lower {
            'a'..='z' | '0'..='9' => &*lower.encode_utf8(&mut buffer),
            _ => without_accent(character),
        };
        if letters.is_empty() {
            // An accent of its own belongs to the letter before it.
            gap |= !matches!(character, '\u{300}'..='\u{36f}');
            continue;
        }
        let hyphen = gap && !words.is_empty();
        if words.len() + usize::from(hyphen) + letters.len() > MAX_WORDS {
            break;
        }
        if hyphen {
            words.push('-');
        }
        words.push_str(letters);
        gap = false;
    }
    // One that was clipped or folded is shorter than its topic.
    let plain = !words.is_empty()
        && topic.len() == words.len()
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_'));
    if plain && !ambiguous(&words) {
        return words;
    }
    if !words.is_empty() {
        words.push('-');
    }
    words.push_str(&hash(&topic.to_lowercase()));
    words
}

/// The slug of a part of a record: the first has the record's own, the second `<slug>-2`.
pub fn part(slug: &str, number: u32) -> String {
    if number < 2 {
        return slug.into();
    }
    let suffix = format!("-{number}");
    // Only the slug of a record that somebody else named can be so long; it is ASCII.
    let kept = slug.get(..MAX_BYTES - suffix.len()).unwrap_or(slug).trim_end_matches('-');
    format!("{kept}{suffix}")
}

/// Could its last word be a hash or the number of a part?
fn ambiguous(words: &str) -> bool {
    let (before, last) = words.rsplit_once('-').unwrap_or(("", words));
    let is_hash = last.len() == 8 && last.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash || !before.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

/// FNV-1a of 64 bits, folded to 32: eight hexadecimal digits. It keeps topics apart that happen to look
/// alike. Who makes two of them collide on purpose mixes only what is theirs.
pub(crate) fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

/// A Latin letter without its accent, in lower case; nothing for what is no such letter.
fn without_accent(character: char) -> &'static str {
    match character {
        'À'..='Å' | 'à'..='å' | 'Ā'..='ą' => "a",
        'Æ' | 'æ' => "ae",
        'Ç' | 'ç' | 'Ć'..='č' => "c",
        'Ð' | 'ð' | 'Ď'..='đ' => "d",
        'È'..='Ë' | 'è'..='ë' | 'Ē'..='ě' => "e",
        'Ĝ'..='ģ' => "g",
        'Ĥ'..='ħ' => "h",
        'Ì'..='Ï' | 'ì'..='ï' | 'Ĩ'..='ı' => "i",
        'Ĵ' | 'ĵ' => "j",
        'Ķ'..='ĸ' => "k",
        'Ĺ'..='ł' => "l",
        'Ñ' | 'ñ' | 'Ń'..='ŋ' => "n",
        'Ò'..='Ö' | 'Ø' | 'ò'..='ö' | 'ø' | 'Ō'..='ő' => "o",
        'Œ' | 'œ' => "oe",
        'Ŕ'..='ř' => "r",
        'Ś'..='š' => "s",
        'ß' | 'ẞ' => "ss",
        'Ţ'..='ŧ' => "t",
        'Þ' | 'þ' => "th",
        'Ù'..='Ü' | 'ù'..='ü' | 'Ũ'..='ų' => "u",
        'Ŵ' | 'ŵ' => "w",
        'Ý' | 'ý' | 'ÿ' | 'Ŷ'..='Ÿ' => "y",
        'Ź'..='ž' => "z",
        _ => "",
    }
}
