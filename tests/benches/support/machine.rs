//! On what was measured: figures mean little without it.

use super::place::Place;
use consolidation_host::measure::WASI;
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;

/// A machine and what is built on it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) file_systems: Vec<String>,
    pub(crate) rustc: String,
    /// Which implementation of WASI the component has.
    pub(crate) wasi: String,
    /// With a `+` if the tree has changes that are not committed.
    pub(crate) commit: String,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or(String::new(), |(_, value)| value.trim().into())
        };
        let kilobytes = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes: u64 = kilobytes.trim_end_matches(" kB").parse().unwrap_or(0);
        let changed = !says("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kilobytes + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            file_systems: Place::all().into_iter().map(|place| place.name).collect(),
            wasi: WASI.into(),
            rustc: says("rustc", &["--version"]),
            commit: says("git", &["rev-parse", "--short", "HEAD"]) + if changed { "+" } else { "" },
        }
    }

    /// In one sentence.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{}, {} cores, {} GiB, Linux {}, {}, {}; WASI binding: {}",
            self.cpu,
            self.cores,
            self.memory_gib,
            self.kernel,
            self.file_systems.join(" and "),
            self.rustc,
            self.wasi
        )
    }
}

/// What a program prints; empty if it can't be run.
fn says(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    ran.map_or(String::new(), |ran| String::from_utf8_lossy(&ran.stdout).trim().into())
}
