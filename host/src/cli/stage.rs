//! `consolidate stage`. Invariant: everything is checked before anything is staged.

use super::output::{Failure, Output};
use crate::{Error, Source, Workspace};
use serde::Serialize;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// How many payloads, and about how many bytes, go to the component in one call.
const CHUNK_PAYLOADS: usize = 100;
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// A line of so many bytes is refused without reading on, whether it ends or not. An entry has far fewer.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// JSON Lines, or one JSON object over any number of lines; standard input if left out or `-`
    file: Option<PathBuf>,

    /// Segment (session) id for payloads without a `source`
    #[arg(long, value_name = "ID", requires = "range", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    segment: Option<String>,

    /// Range in the segment for payloads without a `source`, for example 0..17
    #[arg(long, value_name = "START..END", requires = "segment", value_parser = parse_range, allow_hyphen_values = true)]
    range: Option<(u64, u64)>,
}

/// A payload and the line on which it starts, from 1.
#[derive(Clone, Copy)]
struct Payload<'a> {
    line: u64,
    text: &'a str,
}

/// What is printed with `--json`. The ids are borrowed: there may be a million.
#[derive(Serialize)]
struct Staged<'a> {
    staged: &'a [String],
}

pub(super) fn run(workspace: &Workspace, arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let input = read_input(arguments)?;
    let text = str::from_utf8(&input).map_err(|error| {
        let line = line_at(&input, error.valid_up_to());
        Failure::bad_input(Some(line), format!("line {line}: not UTF-8; nothing was staged"))
    })?;
    let payloads = split(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let default_source = match (&arguments.segment, arguments.range) {
        (Some(segment), Some((start, end))) => Some(Source { segment_id: segment.clone(), start, end }),
        _ => None,
    };
    let chunks = chunks(&payloads);
    let texts =
        |chunk: &[Payload<'_>]| chunk.iter().map(|payload| payload.text.to_owned()).collect::<Vec<_>>();
    // One chunk is checked by the call that stages it.
    if chunks.len() > 1 {
        for chunk in &chunks {
            workspace
                .check(&texts(chunk), default_source.as_ref())
                .map_err(|error| at_line(error, chunk, &[]))?;
        }
    }
    let mut ids: Vec<String> = Vec::with_capacity(payloads.len());
    for chunk in &chunks {
        let staged = workspace
            .stage_many(&texts(chunk), default_source.as_ref())
            .map_err(|error| at_line(error, chunk, &ids))?;
        ids.extend(staged);
    }
    if ids.is_empty() {
        output.note("nothing to stage: the input is empty");
    }
    output
        .result(&Staged { staged: &ids }, |out| ids.iter().try_for_each(|id| writeln!(out, "{id}")))
        .map_err(|failure| failure.with_staged(ids.clone()))
}

fn read_input(arguments: &Arguments) -> Result<Vec<u8>, Failure> {
    match arguments.file.as_deref().filter(|file| *file != "-") {
        Some(file) => {
            let failed = |error| Failure::file("read", file, &error);
            let opened = File::open(file).map_err(failed)?;
            let size = opened.metadata().map_or(0, |metadata| metadata.len());
            read_lines(opened, usize::try_from(size).unwrap_or(0), failed)
        }
        None => {
            let failed = |error| Failure::io(format!("cannot read standard input: {error}"));
            read_lines(std::io::stdin().lock(), 0, failed)
        }
    }
}

/// All of it, unless it has a line that can't be an entry: what never ends would take all memory.
fn read_lines(
    mut from: impl Read,
    size: usize,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<Vec<u8>, Failure> {
    let mut input = Vec::new();
    input.try_reserve_exact(size).map_err(|error| failed(error.into()))?;
    loop {
        let before = input.len();
        let read = from.by_ref().take(MAX_LINE_BYTES).read_to_end(&mut input).map_err(&failed)?;
        if (read as u64) < MAX_LINE_BYTES {
            return Ok(input);
        }
        if !input[before..].contains(&b'\n') {
            let line = line_at(&input, before);
            let what = format!("it has more than {} MiB, and an entry 1 MiB at most", MAX_LINE_BYTES >> 20);
            return Err(malformed_at(line, &what));
        }
    }
}

/// Splits the input: JSON Lines if its first line is a JSON value by itself, else one JSON value over
/// any number of lines. What is in them is the component's business.
fn split(text: &str) -> Result<Vec<Payload<'_>>, Failure> {
    let lines = (1..).zip(text.lines()).map(|(line, text)| Payload { line, text: text.trim() });
    let mut lines = lines.filter(|payload| !payload.text.is_empty()).peekable();
    let Some(&Payload { line, text: first }) = lines.peek() else {
        return Ok(Vec::new());
    };
    if is_json(first).is_ok() {
        return lines
            .map(|payload| {
                is_json(payload.text).map(|()| payload).map_err(|error| malformed(payload.line, &error))
            })
            .collect();
    }
    match is_json(text) {
        Ok(()) => Ok(vec![Payload { line, text: text.trim() }]),
        // All other lines are whole objects: so these are JSON Lines, and the first one is cut off.
        Err(_) if all_are_objects(lines.skip(1)) => {
            Err(is_json(first)
                .map_or_else(|error| malformed(line, &error), |()| malformed_at(line, "cut off")))
        }
        Err(error) => Err(malformed(error.line() as u64, &error)),
    }
}

fn all_are_objects<'a>(lines: impl Iterator<Item = Payload<'a>>) -> bool {
    let mut lines = lines.peekable();
    lines.peek().is_some() && lines.all(|line| line.text.starts_with('{') && is_json(line.text).is_ok())
}

fn is_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(drop)
}

fn malformed(line: u64, error: &serde_json::Error) -> Failure {
    let message = error.to_string();
    let words = message.rsplit_once(" at line ").map_or(message.as_str(), |(words, _)| words);
    malformed_at(line, &format!("{words} at column {}", error.column()))
}

fn malformed_at(line: u64, what: &str) -> Failure {
    Failure::bad_input(Some(line), format!("line {line}: {what}; nothing was staged"))
}

fn chunks<'a, 'b>(payloads: &'a [Payload<'b>]) -> Vec<&'a [Payload<'b>]> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, payload) in payloads.iter().enumerate() {
        if index > start && (index - start == CHUNK_PAYLOADS || bytes + payload.text.len() > CHUNK_BYTES) {
            chunks.push(&payloads[start..index]);
            start = index;
            bytes = 0;
        }
        bytes += payload.text.len();
    }
    if start < payloads.len() {
        chunks.push(&payloads[start..]);
    }
    chunks
}

/// A failure with the line of the payload at fault, and with what earlier calls have staged.
fn at_line(error: Error, chunk: &[Payload<'_>], staged: &[String]) -> Failure {
    let line =
        error.index().and_then(|index| chunk.get(usize::try_from(index).ok()?)).map(|payload| payload.line);
    let staged: Vec<String> = staged.iter().chain(error.staged()).cloned().collect();
    let message = error.guest().map(|error| error.message.clone());
    let mut failure = match (line, message) {
        (Some(line), Some(message)) if error.code() == crate::ErrorCode::InvalidInput => {
            Failure::bad_input(Some(line), format!("line {line}: {message}; nothing was staged"))
        }
        _ => Failure::from(error),
    };
    if staged.is_empty() && !failure.message().contains("nothing was staged") {
        failure = failure.because("nothing was staged");
    }
    failure.with_staged(staged)
}

fn line_at(input: &[u8], offset: usize) -> u64 {
    1 + input[..offset].iter().filter(|byte| **byte == b'\n').count() as u64
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let wrong = || "expected START..END, two numbers of 0 or more, for example 0..17".to_owned();
    let (start, end) = text.split_once("..").ok_or_else(wrong)?;
    let start = start.parse().map_err(|_| wrong())?;
    let end = end.parse().map_err(|_| wrong())?;
    if start > end { Err("the range ends before it starts".into()) } else { Ok((start, end)) }
}
