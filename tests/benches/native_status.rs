//! `consolidate status` without a sandbox: the native build of the rules behind a command line of the same
//! kind. The benchmarks compare the start of `consolidate` with it.

#[cfg(unix)]
#[path = "support/process.rs"]
mod process;

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() -> std::io::Result<()> {
    unix::main()
}

#[cfg(unix)]
mod unix {
    use super::process::ThisProcess;
    use clap::{Parser, Subcommand};
    use consolidation_guest::lock::Status;
    use consolidation_guest::native::NativeDir;
    use consolidation_guest::workspace::Workspace;
    use std::io::{self, Write};
    use std::path::PathBuf;
    use std::time::{SystemTime, UNIX_EPOCH};

    /// Shows what is staged.
    #[derive(Parser)]
    struct Arguments {
        /// The workspace: an existing directory
        #[arg(long, global = true, env = "CONSOLIDATION_ROOT", default_value = ".", value_name = "DIR")]
        root: PathBuf,

        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        /// Show what is staged, what is unusable and who holds the lock
        Status,
    }

    pub(super) fn main() -> io::Result<()> {
        let Arguments { root, command: Command::Status } = Arguments::parse();
        let failed =
            |error: consolidation_guest::error::Error| io::Error::other(error.into_failure().message);
        let root = NativeDir::open_path(root).map_err(|error| io::Error::other(error.to_string()))?;
        let workspace = Workspace::new(root, ThisProcess);
        let summary = workspace.summarize().map_err(failed)?;
        let lock = workspace.lock_status().map_err(failed)?;
        let mut out = io::stdout().lock();
        write!(out, "entries   {}", summary.entries)?;
        if let Some(oldest) = summary.oldest_ms {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = u64::try_from(now.as_millis()).unwrap_or(0);
            let seconds = now.saturating_sub(oldest) / 1_000;
            write!(out, ", the oldest {seconds} s old")?;
        }
        write!(out, "\nunusable  {}", summary.unusable_count)?;
        if summary.entries > 0 {
            write!(out, " by name or type; `status --check` reads the entries too")?;
        }
        writeln!(out)?;
        match lock {
            Status::Free => writeln!(out, "lock      free"),
            other => writeln!(out, "lock      {other:?}"),
        }
    }
}
