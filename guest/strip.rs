//! Takes the custom sections out of a component and everything nested in it: `strip FROM TO`. They hold
//! names and what tools made it, which nothing reads that runs it. The linker has no switch for it.
//!
//! guest/build.sh compiles this with rustc alone, and it needs no crate: a binary is eight bytes and then
//! sections, each a byte that says what it is, its length (LEB128) and its content.

use std::{env, fs, process::ExitCode};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The same in all binaries; the other two only mean this in a component.
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const NESTED_COMPONENT: u8 = 4;

/// The binary without its custom sections; none if it is not well formed.
fn stripped(binary: &[u8]) -> Option<Vec<u8>> {
    let (header, mut rest) = binary.split_at_checked(8)?;
    if header != MODULE && header != COMPONENT {
        return None;
    }
    let mut kept = header.to_vec();
    while let Some((&section, after)) = rest.split_first() {
        let (len, after) = length(after)?;
        let (content, after) = after.split_at_checked(len)?;
        rest = after;
        match section {
            CUSTOM => {}
            CORE_MODULE | NESTED_COMPONENT if header == COMPONENT => {
                put(&mut kept, section, &stripped(content)?)
            }
            _ => put(&mut kept, section, content),
        }
    }
    Some(kept)
}

/// A length and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut len = 0;
    for (at, &byte) in bytes.iter().take(5).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((len, &bytes[at + 1..]));
        }
    }
    None
}

fn put(kept: &mut Vec<u8>, section: u8, content: &[u8]) {
    kept.push(section);
    let mut len = content.len();
    while len >= 0x80 {
        kept.push(len as u8 | 0x80);
        len >>= 7;
    }
    kept.push(len as u8);
    kept.extend_from_slice(content);
}

fn main() -> ExitCode {
    let paths: Vec<_> = env::args_os().skip(1).collect();
    let [from, to] = &paths[..] else {
        eprintln!("usage: strip FROM TO");
        return ExitCode::from(2);
    };
    let done = fs::read(from).map_err(|error| error.to_string()).and_then(|binary| {
        let binary = stripped(&binary).ok_or("it is no well-formed component")?;
        fs::write(to, binary).map_err(|error| error.to_string())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("strip: {}: {why}", from.display());
            ExitCode::FAILURE
        }
    }
}
