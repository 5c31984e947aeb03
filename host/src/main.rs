//! The `consolidate` command. See `consolidate --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    consolidation_host::cli::main()
}
