//! The `consolidate` command. See `consolidate --help`.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "sys/pow.rs"]
mod pow;

use std::process::ExitCode;

fn main() -> ExitCode {
    consolidation_host::cli::main()
}
