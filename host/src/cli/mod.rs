//! The `consolidate` command: arguments, one module a subcommand, exit codes. Invariant: with `--json`
//! standard output holds exactly one JSON document, whatever happens; people's messages and everything
//! that a consolidator prints then go to standard error.

mod batched;
mod command;
mod diff;
mod doctor;
mod gate;
mod later;
mod list;
mod log;
mod memory;
mod output;
mod quarantine;
mod run;
mod schema;
mod stage;
mod status;
mod undo;
mod unlock;
mod updates;

use crate::{Durability, Runtime};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use later::Later;
use output::{Failure, Output};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long one call into the component may take. It is our own component, so this is a last resort,
/// and a full directory on a slow disk takes its time.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);

const EXIT_CODES: &str = "\
Exit codes:
   0  done, also when there was nothing to do, or nothing yet (it says so)
   1  `doctor` found something that is left
   2  wrong usage
  65  bad input: a payload, an entry, a memory record or an id is not usable; nothing was done
  70  the consolidator failed, was interrupted, or is no usable plugin; its entries stay staged
  74  input or output error
  75  the lock is in use or was lost, a memory record was changed meanwhile, or the
      consolidator asks for it; try again later";

/// Stages what agents learn and consolidates it, one run at a time.
#[derive(Debug, Parser)]
#[command(name = "consolidate", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    /// The workspace: an existing directory
    #[arg(long, global = true, env = "CONSOLIDATION_ROOT", default_value = ".", value_name = "DIR")]
    root: PathBuf,

    /// Print one JSON document on standard output instead of text
    #[arg(long, global = true)]
    json: bool,

    /// What must survive a crash of the machine: `full`, what a command reports as done; `none`,
    /// nothing (for tests, and for file systems in memory)
    #[arg(
        long,
        global = true,
        env = "CONSOLIDATION_DURABILITY",
        value_enum,
        default_value = "full",
        value_name = "HOW",
        hide_possible_values = true
    )]
    durability: DurabilityArgument,

    /// Other programs write this lock too, without exclusion: take it only after it has stood for 100
    /// ms, and look twice before a stale one is removed. All who use this workspace must set it
    #[arg(long, global = true, env = "CONSOLIDATION_COEXIST", value_parser = parse_switch)]
    coexist: bool,

    #[command(subcommand)]
    command: Command,
}

/// A switch in the environment. A word that says neither is a mistake, and not a yes.
fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1, true, yes or on, or 0, false, no, off or nothing".into()),
    }
}

/// [`Durability`], as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DurabilityArgument {
    Full,
    None,
}

impl From<DurabilityArgument> for Durability {
    fn from(argument: DurabilityArgument) -> Self {
        match argument {
            DurabilityArgument::Full => Durability::Full,
            DurabilityArgument::None => Durability::None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stage payloads: one JSON object, or JSON Lines; prints their ids in input order
    Stage(Later<stage::Arguments>),
    /// List the staged entries, oldest first
    List,
    /// Show what is staged, what is unusable and who holds the lock
    Status(Later<status::Arguments>),
    /// Run a command or a plugin over everything that is staged; what it has dealt with goes
    Run(Box<Later<run::Arguments>>),
    /// Show past runs, the one that ended last first: how, when, by whom, what it took and changed
    Log(Later<log::Arguments>),
    /// Put the memory records that a run changed back to what they were before it
    Undo(Later<undo::Arguments>),
    /// List memory records, or show one
    Memory(Later<memory::Arguments>),
    /// List, retry or drop entries that a consolidator failed on again and again
    Quarantine(Later<quarantine::Arguments>),
    /// Print the JSON Schema of the updates that `run --updates` reads, line by line
    Schema,
    /// Name what is left over or out of order, and remove it with --fix
    Doctor(Later<doctor::Arguments>),
    /// Remove a lock that is stale or unreadable, or any with --force
    Unlock(Later<unlock::Arguments>),
    /// Wait for a go on standard input, then become CMD (used by `run`)
    #[command(name = "__gate", hide = true)]
    Gate(Later<gate::Arguments>),
}

/// Runs the command line of this process and says how it ended.
pub fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    crate::sys::heap::prepare();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let parsed = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error, &arguments),
    };
    if let Command::Gate(Later(arguments)) = &parsed.command {
        return gate::run(arguments);
    }
    let output = Output::new(parsed.json);
    log_to_stderr(&output);
    take_signals();
    match execute(&parsed, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}

/// Options that every subcommand has, and that say where and how. clap takes the inner one of two that stand before
/// and behind the subcommand, and something would be done to a workspace that was not meant.
const ONCE: [&str; 2] = ["--root", "--durability"];

fn refuse_twice(arguments: &[OsString]) -> Result<(), clap::Error> {
    let own =
        || arguments.iter().take_while(|argument| *argument != "--").filter_map(|argument| argument.to_str());
    for option in ONCE {
        let is_it = |argument: &&str| {
            argument.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        if own().filter(is_it).count() > 1 {
            let message = format!("the option '{option}' is given more than once\n");
            return Err(Arguments::command().error(clap::error::ErrorKind::ArgumentConflict, message));
        }
    }
    Ok(())
}

/// What [`Parser::try_parse_from`] does, and leaves the description of all commands to the end of the process.
fn parse(arguments: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = ManuallyDrop::new(Arguments::command());
    let mut matches = ManuallyDrop::new(command.try_get_matches_from_mut(arguments)?);
    refuse_twice(arguments)?;
    Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

fn execute(parsed: &Arguments, output: &Output) -> Result<(), Failure> {
    match &parsed.command {
        Command::Run(arguments) => arguments.0.check()?,
        Command::Quarantine(Later(arguments)) => arguments.check()?,
        _ => {}
    }
    let has_plugin = matches!(&parsed.command, Command::Run(arguments) if arguments.0.has_plugin());
    let builder = Runtime::builder().call_timeout(CALL_TIMEOUT).compiles_nothing(!has_plugin);
    // The process ends after this and takes everything along at once. To take the engine and its instances to
    // pieces first is a tenth of the time of a short command, and nothing on disk depends on it.
    let runtime = ManuallyDrop::new(builder.build()?);
    let workspace = runtime.open(&parsed.root)?.with_durability(parsed.durability.into());
    let workspace = ManuallyDrop::new(workspace);
    let coexist = parsed.coexist;
    match &parsed.command {
        Command::Stage(Later(arguments)) => stage::run(&workspace, arguments, output),
        Command::List => list::run(&workspace, output),
        Command::Status(Later(arguments)) => status::run(&workspace, arguments, output),
        Command::Run(arguments) => run::run(&runtime, &workspace, &arguments.0, coexist, output),
        Command::Log(Later(arguments)) => log::run(&workspace, arguments, output),
        Command::Undo(Later(arguments)) => undo::run(&workspace, arguments, coexist, output),
        Command::Memory(Later(arguments)) => memory::run(&workspace, arguments, output),
        Command::Quarantine(Later(arguments)) => quarantine::run(&workspace, arguments, output),
        Command::Schema => schema::run(&workspace, output),
        Command::Doctor(Later(arguments)) => doctor::run(&workspace, arguments, coexist, output),
        Command::Unlock(Later(arguments)) => unlock::run(&workspace, arguments, coexist, output),
        Command::Gate(_) => Ok(()),
    }
}

/// Help and version are no failures; a wrong argument is one, in JSON too if JSON was asked for.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let asked_for_json =
        arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    // clap lists the hidden ones too.
    let whole = error.to_string();
    let shown = whole.replace(", __gate", "");
    if error.use_stderr() && asked_for_json {
        return Output::new(true).failure(&Failure::usage(shown));
    }
    // clap itself colours what it prints.
    let printed = if shown == whole { error.print() } else { write!(io::stderr(), "{shown}") };
    if error.use_stderr() {
        // Nothing helps if standard error is closed.
        return ExitCode::from(Failure::USAGE);
    }
    match Failure::unless_printed(printed.and_then(|()| io::stdout().flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => Output::new(false).failure(&failure),
    }
}

/// Sets right what a parent may have set: with SIGCHLD ignored nobody could wait for the command, and
/// SIGXFSZ would kill where a write past the limit is an error like any other. A handler that does
/// nothing is enough, and the command does not inherit it.
fn take_signals() {
    #[cfg(unix)]
    for signal in [rustix::process::Signal::CHILD, rustix::process::Signal::XFSZ] {
        // If it can't be had, everything is as the parent wanted it.
        let _ = signal_hook::flag::register(signal.as_raw(), std::sync::Arc::default());
    }
}

/// Warnings of the library (takeovers, failed deletes) go to standard error, without colours.
fn log_to_stderr(output: &Output) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let asked = std::env::var("CONSOLIDATION_LOG").ok().filter(|filter| !filter.is_empty());
    // White space, as a file has it at its end, would be part of a name, and nothing be shown.
    let words = |filter: &str| filter.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    let filter =
        asked.map(|filter| words(&filter).parse::<Targets>().map_err(|error| (filter, error))).transpose();
    let warnings = || Targets::new().with_default(LevelFilter::WARN);
    let filter = filter.map(|filter| filter.unwrap_or_else(warnings)).unwrap_or_else(|(filter, error)| {
        output.note(format_args!("CONSOLIDATION_LOG={filter:?} is ignored: {error}"));
        warnings()
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // It would say so on standard error, and panic if that can't be written.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false)
        .without_time();
    // Fails if an embedder has set one already, whose choice stands.
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
}
