//! The benchmarks: what the sandbox costs, and whether that stays so.
//!
//! `cargo bench` measures everything, some minutes long, writes `target/bench/summary.json` and `growth.svg`
//! and prints the tables. `cargo bench -- operations growth` measures some sections, and keeps the figures of
//! the others. With `--docs` the tables and the drawing also go into the documentation, and with `--table`
//! nothing is measured and what was measured before is shown. `CONSOLIDATION_BENCH_DIR` names the directory on a
//! disk to measure in.
//!
//! `cargo bench -- --smoke` goes once through everything with little data, and fails if a result is wrong.

#[cfg(unix)]
mod calls;
#[cfg(unix)]
mod cold_start;
#[cfg(unix)]
mod contention;
#[cfg(unix)]
mod growth;
#[cfg(unix)]
mod many;
#[cfg(unix)]
mod memory;
#[cfg(unix)]
mod operations;
#[cfg(unix)]
mod support;

#[cfg(not(unix))]
fn main() {
    println!("the benchmarks need a Unix system");
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;
    use support::machine::Machine;
    use support::place::Clear;
    use support::summary::{Section, Summary};
    use support::{Form, child, plot, tables};

    /// A section's name, and what makes its figures.
    type Measure = fn(Form) -> Vec<support::summary::Figure>;
    const SECTIONS: [(&str, Measure); 7] = [
        ("operations", operations::measure),
        ("start", cold_start::measure),
        ("many", many::measure),
        ("contention", contention::measure),
        ("calls", calls::measure),
        ("memory", memory::measure),
        ("growth", growth::measure),
    ];

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, what, rest @ ..] = &arguments[..]
        && flag == child::CHILD
    {
        match what.as_str() {
            "calls" => calls::child(rest),
            "contention" => contention::child(rest),
            "many" => many::child(rest),
            other => panic!("there is no process {other}"),
        }
        return ExitCode::SUCCESS;
    }
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let named: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = named.iter().find(|name| !SECTIONS.iter().any(|(section, _)| section == *name)) {
        let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no section {unknown}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    // Without `--bench` it is cargo's tests that run it.
    let form = if asked("--bench") && !asked("--smoke") { Form::Full } else { Form::Smoke };
    let _clear = Clear;
    let mut summary = Summary::load();
    if !asked("--table") {
        if form == Form::Smoke {
            println!("once through everything with little data: the figures mean nothing");
            summary = Summary::default();
        }
        summary.machine = Machine::this();
        println!("{}", summary.machine.describe());
        for (name, measure) in SECTIONS {
            if !named.is_empty() && !named.contains(&name) {
                continue;
            }
            println!("\n{name}");
            let section = Section { commit: summary.machine.commit.clone(), figures: measure(form) };
            summary.sections.insert(name.into(), section);
            if form == Form::Full {
                summary.save();
            }
        }
    }
    println!();
    for table in tables::all(&summary) {
        println!("{}\n", table.markdown);
    }
    if form == Form::Full {
        println!("{}", Summary::path().display());
        plot::write(&summary, asked("--docs"));
        if asked("--docs") {
            tables::write_into_docs(&summary);
        }
    }
    ExitCode::SUCCESS
}
