//! `consolidate run` with a plugin or with a command that prints updates. Invariant: a dry run takes no
//! lock and writes no file.

use super::command::{Event, Events};
use super::diff;
use super::output::{Failure, Output, count, printable};
use super::run::{self, signal_name, wait_for_lock};
use super::updates::UpdatesCommand;
use crate::{
    Cause, ConsolidateError, ConsolidateOptions, Consolidation, Consolidator, Error, ErrorCode, Grant, Lock,
    Observer, Plugin, PluginOptions, Preview, Progress, ReleaseReport, Runtime, UpdateLimits, Workspace,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Plugins and commands that print updates")]
#[group(skip)]
pub(super) struct Arguments {
    /// Consolidate with this plugin, a WebAssembly component (.wasm)
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,

    /// CMD prints updates of memory records, as JSON Lines
    #[arg(long)]
    updates: bool,

    /// Show as a unified diff what would change; takes no lock, changes nothing
    #[arg(long, requires = "consolidator", conflicts_with_all = ["drain", "wait"])]
    dry_run: bool,

    /// Give the plugin something that its sandbox does not have by itself; may stand more than once
    #[arg(long, value_name = "NAME", requires = "plugin", conflicts_with_all = ["updates", "command"])]
    grant: Vec<Grant>,

    /// How much memory the plugin may use [default: 256]
    #[arg(long, value_name = "MIB", requires = "plugin", conflicts_with_all = ["updates", "command"], value_parser = clap::value_parser!(u32).range(1..=4096), allow_negative_numbers = true)]
    plugin_memory: Option<u32>,

    /// How long one batch may take. A plugin is stopped then [default: 60], a command killed with
    /// all processes of its group [default: no limit]
    #[arg(long, value_name = "SECONDS", requires = "consolidator", value_parser = run::parse_timeout, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    /// How many updates one batch may give [default: 10000]
    #[arg(long, value_name = "N", requires = "consolidator", value_parser = run::parse_at_least_one::<u32>, allow_negative_numbers = true)]
    max_updates: Option<u32>,

    /// How many bytes the texts of one update may have [default: 1048576]
    #[arg(long, value_name = "B", requires = "consolidator", value_parser = run::parse_at_least_one::<u64>, allow_negative_numbers = true)]
    max_update_bytes: Option<u64>,

    /// How many bytes a plugin may log; what is beyond is dropped [default: 1048576]
    #[arg(long, value_name = "B", requires = "plugin", conflicts_with_all = ["updates", "command"], allow_negative_numbers = true)]
    max_log_bytes: Option<u64>,

    /// How many entries it gets at a time [default: 100]
    #[arg(long, value_name = "N", requires = "consolidator", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    batch_entries: Option<u32>,

    /// About how many bytes of entries it gets at a time, but at least one entry [default: 1048576]
    #[arg(long, value_name = "B", requires = "consolidator", allow_negative_numbers = true)]
    batch_bytes: Option<u64>,

    /// After how many failed attempts an entry goes to the quarantine [default: 3]
    #[arg(long, value_name = "N", requires = "consolidator", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    max_attempts: Option<u32>,
}

impl Arguments {
    /// Else it is a run of a plain command.
    pub(super) fn is_asked_for(&self) -> bool {
        self.plugin.is_some() || self.updates
    }

    pub(super) fn has_plugin(&self) -> bool {
        self.plugin.is_some()
    }

    fn plugin_options(&self) -> PluginOptions {
        let mut options = PluginOptions::new();
        if let Some(directory) = cache_directory() {
            options = options.cache(directory);
        }
        for grant in &self.grant {
            options = options.grant(grant.clone());
        }
        if let Some(mebibytes) = self.plugin_memory {
            options = options.memory_limit(usize::try_from(u64::from(mebibytes) << 20).unwrap_or(usize::MAX));
        }
        if let Some(timeout) = self.timeout {
            options = options.call_timeout(timeout);
        }
        if let Some(bytes) = self.max_log_bytes {
            options = options.max_log_bytes(bytes);
        }
        options
    }
}

/// Where compiled plugins are kept; none: nowhere.
fn cache_directory() -> Option<PathBuf> {
    // A relative one would depend on where the command is started.
    let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match std::env::var_os("CONSOLIDATION_CACHE") {
        Some(path) if path.is_empty() => None,
        Some(path) => Some(path.into()),
        None => directory("XDG_CACHE_HOME")
            .or_else(|| Some(directory("HOME")?.join(".cache")))
            .map(|cache| cache.join("consolidate")),
    }
}

pub(super) fn run(
    runtime: &Runtime,
    workspace: &Workspace,
    arguments: &run::Arguments,
    coexist: bool,
    output: &Output,
    events: &Events,
) -> Result<(), Failure> {
    let options = options(arguments, coexist);
    let mut watch = Watch { output, events, wait: options.wait, announced: false, interrupted_by: None };
    let command = UpdatesCommand::new(&arguments.command, workspace, events, arguments.batched.timeout);
    let mut plugin = match &arguments.batched.plugin {
        Some(path) => {
            let plugin = Plugin::load(runtime, path, &arguments.batched.plugin_options())?;
            stop_on_signals(output.is_json(), &plugin, events);
            Some(plugin)
        }
        None => None,
    };
    if arguments.batched.dry_run {
        let mut updates;
        let consolidator: &mut dyn Consolidator = match &mut plugin {
            Some(plugin) => plugin,
            None => {
                updates = command;
                &mut updates
            }
        };
        let preview = workspace
            .preview(&options, consolidator, &mut watch)
            .map_err(|error| failure(error, workspace, &mut watch, Some("nothing was changed")))?;
        return show_preview(output, &preview);
    }
    let done = workspace.consolidate_under(&options, &mut watch, |lock: &Lock, observer| match &mut plugin {
        Some(plugin) => lock.consolidate(&options, plugin, observer),
        None => lock.consolidate(&options, &mut command.under(lock), observer),
    });
    let done = done.map_err(|error| failure(error, workspace, &mut watch, None))?;
    show(output, &done)
}

fn options(arguments: &run::Arguments, coexist: bool) -> ConsolidateOptions {
    let batched = &arguments.batched;
    let default = ConsolidateOptions::new("");
    ConsolidateOptions {
        lock: arguments.lock(coexist),
        wait: arguments.wait,
        gates: arguments.gates(),
        limits: arguments.limits(),
        batch_entries: batched.batch_entries.unwrap_or(default.batch_entries),
        batch_bytes: batched.batch_bytes.unwrap_or(default.batch_bytes),
        updates: UpdateLimits {
            max_updates: batched.max_updates.unwrap_or(default.updates.max_updates),
            max_update_bytes: batched.max_update_bytes.unwrap_or(default.updates.max_update_bytes),
        },
        max_attempts: batched.max_attempts.unwrap_or(default.max_attempts),
        drain: arguments.drain,
    }
}

/// The first signal stops the plugin in the middle of its batch, which then has no effect. The second ends
/// the process: the lock of a process that is gone is taken over by the next run, and what is not committed
/// is as if it had never been.
fn stop_on_signals(json: bool, plugin: &Plugin, events: &Events) {
    let interrupter = plugin.interrupter();
    events.on_signal(move |before, signal| {
        if before == 0 {
            return interrupter.interrupt();
        }
        let name = signal_name(signal);
        let message = format!("interrupted twice, the second time by {name}; the entries stay staged");
        let failure = Failure::consolidator(message, interrupted_document(signal)).coded("interrupted");
        Output::new(json).failure(&failure);
        std::process::exit(Failure::CONSOLIDATOR.into());
    });
}

/// Waits for the lock and minds signals.
struct Watch<'a> {
    output: &'a Output,
    events: &'a Events,
    wait: Duration,
    announced: bool,
    interrupted_by: Option<i32>,
}

impl Observer for Watch<'_> {
    fn wait(&mut self, in_use: &Error, pause: Duration) -> bool {
        wait_for_lock(in_use, pause, self.wait, &mut self.announced, self.output, self.events)
    }

    fn go_on(&mut self, _: &Progress) -> bool {
        self.signal().is_none()
    }
}

impl Watch<'_> {
    /// The first signal that has come.
    fn signal(&mut self) -> Option<i32> {
        while let Some(event) = self.events.next_within(Duration::ZERO) {
            if let Event::Signal(signal) = event {
                self.interrupted_by.get_or_insert(signal);
            }
        }
        // A command that was interrupted while it ran has taken the signal.
        self.interrupted_by = self.interrupted_by.or(self.events.taken_signal());
        self.interrupted_by
    }
}

fn failure(
    error: ConsolidateError,
    workspace: &Workspace,
    watch: &mut Watch<'_>,
    stays: Option<&str>,
) -> Failure {
    let ConsolidateError { cause, mut done, .. } = error;
    if watch.output.is_json() {
        // All of them wait for the next run, and not what exceeds the caps alone.
        done.left = workspace.summarize().map_or(done.left, |summary| summary.entries);
    }
    let stays = stays.unwrap_or(if done.failed.iter().any(|failed| failed.quarantined) {
        "what is not in the quarantine stays staged"
    } else {
        "the entries of this run stay staged"
    });
    let signal = watch.signal();
    note_failed(watch.output, &done);
    let details = |how: &str| {
        let mut document = document("failed", &done);
        document["how"] = json!(how);
        document
    };
    let failure = match (cause, signal) {
        (Cause::Interrupted | Cause::Temporary(_), Some(signal)) => {
            let how = format!("interrupted by {}", signal_name(signal));
            let mut details = details(&how);
            details["interrupted_by"] = json!(signal);
            Failure::consolidator(format!("{how}; {stays}"), details).coded("interrupted")
        }
        (Cause::Interrupted, None) => run::interrupted_while_waiting(),
        (Cause::Temporary(how), None) => Failure::temporary(format!("{how}; {stays}"), details(&how)),
        (Cause::Failed(how) | Cause::Broken(how), _) => {
            Failure::consolidator(format!("{how}; {stays}"), details(&how))
        }
        (Cause::Workspace(error), _) => {
            let is_conflict = error.code() == ErrorCode::Conflict;
            let failure = Failure::from(error);
            let failure = if done.runs.is_empty() {
                failure
            } else {
                let how = failure.message().to_owned();
                failure.detailed(details(&how))
            };
            if is_conflict { failure.followed_by(stays) } else { failure }
        }
    };
    if done.runs.is_empty() {
        return failure;
    }
    failure.because(format_args!("{} consolidated before", count(done.entries, "entry was", "entries were")))
}

fn interrupted_document(signal: i32) -> Value {
    json!({ "outcome": "failed", "how": format!("interrupted by {}", signal_name(signal)), "interrupted_by": signal })
}

fn document(outcome: &str, done: &Consolidation) -> Value {
    json!({
        "outcome": outcome, "runs": done.runs, "entries": done.entries, "removed": done.removed,
        "missing": done.missing, "failed": done.undeleted, "left": done.left, "unusable": done.unusable,
        "records": { "created": done.created, "changed": done.changed },
        "failed_entries": done.failed, "lock_lost": done.lock_lost,
    })
}

/// Entries that were left out are no failure of the run, and nobody should miss them.
fn note_failed(output: &Output, done: &Consolidation) {
    for failed in &done.failed {
        let what = match (failed.quarantined, failed.attempts) {
            (true, attempts) => {
                format!(
                    "after {} it is in the quarantine, `quarantine retry` brings it back",
                    count(attempts.into(), "attempt", "attempts")
                )
            }
            (false, 0) => {
                "this attempt could not be noted; it is tried again, unless `quarantine list` shows it"
                    .to_owned()
            }
            (false, attempts) => format!("attempt {attempts}, it is tried again by the next run"),
        };
        output.note(format_args!("failed: {}: {}; {what}", failed.id, printable(&failed.reason)));
    }
}

fn note_unusable(output: &Output, files: &[crate::UnusableFile]) {
    for file in files {
        output.note(format_args!("left out: {}: {}", printable(&file.name), printable(&file.reason)));
    }
}

fn show(output: &Output, done: &Consolidation) -> Result<(), Failure> {
    if let Some(reason) = &done.skipped {
        return run::skipped(output, reason);
    }
    note_unusable(output, &done.unusable);
    note_failed(output, done);
    if done.runs.is_empty() {
        return output
            .result(&document("nothing_to_do", done), |out| run::write_nothing_to_do(out, done.left));
    }
    let report = ReleaseReport {
        removed: done.removed,
        missing: done.missing,
        failed: done.undeleted.clone(),
        lost: done.lock_lost,
        ..ReleaseReport::default()
    };
    let mut in_json = document("consolidated", done);
    // The failed ones that are not in the quarantine wait for the next run too; people read of them above.
    let waiting = done.failed.iter().filter(|failed| !failed.quarantined).count() as u64;
    in_json["left"] = json!(done.left + waiting);
    output.result_of(run::DONE, &in_json, |out| {
        write!(out, "consolidated {}", count(done.entries, "entry", "entries"))?;
        write!(out, ": {} created, {} changed", count(done.created, "record", "records"), done.changed)?;
        if !done.failed.is_empty() {
            write!(out, "; {} failed", count(done.failed.len() as u64, "entry", "entries"))?;
        }
        run::write_rest(out, &report, done.left)
    })
}

fn show_preview(output: &Output, preview: &Preview) -> Result<(), Failure> {
    if let Some(reason) = &preview.skipped {
        return run::skipped(output, reason);
    }
    note_unusable(output, &preview.unusable);
    for failed in &preview.failed {
        output.note(format_args!("failed: {}: {}", failed.id, printable(&failed.reason)));
    }
    let changes: Vec<Value> = preview
        .changes
        .iter()
        .map(|change| json!({ "path": diff::path(change), "before": change.before, "after": change.after }))
        .collect();
    let document = json!({
        "outcome": "dry_run", "entries": preview.entries, "changes": changes, "left": preview.left,
        "unusable": preview.unusable, "failed_entries": preview.failed,
    });
    output.result(&document, |out| {
        preview.changes.iter().try_for_each(|change| diff::write(out, change))?;
        if preview.changes.is_empty() {
            writeln!(out, "nothing would change")?;
        }
        Ok(())
    })
}
