//! What it takes until the component works: a process from its start to its end, `consolidate status` of a small
//! workspace beside a native program that reads the same arguments and prints the same lines; a runtime, an
//! instance, a first call; and how much there is to load.

use crate::support::native::Native;
use crate::support::place::Place;
use crate::support::summary::{Figure, Spread};
use crate::support::turns::{Party, Turns};
use crate::support::{Form, fill, open, runtime};
use consolidation_guest::durable::Durability;
use consolidation_guest::layout::STAGING;
use consolidation_host::Runtime;
use consolidation_host::measure::Instances;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How many entries the workspace has.
const ENTRIES: u64 = 20;

const CONSOLIDATE: &str = env!("CARGO_BIN_EXE_consolidate");

pub(crate) fn measure(form: Form) -> Vec<Figure> {
    let place = Place::fastest();
    let mut figures = vec![process(form, &place), runtime_of_its_own(form)];
    figures.extend([instantiate(form, &place), first_call(form, &place)]);
    figures.extend(sizes());
    figures.iter().for_each(Figure::tell);
    figures
}

fn turns(form: Form) -> Turns {
    Turns::new(form, Duration::from_secs(5))
}

fn process(form: Form, place: &Place) -> Figure {
    // As an installer does. What a linker has written lies in the system's memory in single pages, and a start of
    // a large program from them takes a fifth longer, until they are dropped and read again.
    let installed = tempfile::TempDir::new_in(target_folder()).expect("a folder beside the programs");
    let install = |program: &Path| {
        let copy = installed.path().join(program.file_name().expect("a program has a name"));
        fs::copy(program, &copy).expect("it can be copied");
        copy
    };
    let (consolidate, native) = (install(Path::new(CONSOLIDATE)), install(&build_native()));
    // After what may take minutes: an age beyond one is told in other words by each.
    let directory = place.directory();
    fill(directory.path(), ENTRIES);
    let run = |program: &Path| {
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(directory.path())
            .arg("status")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let ran = command.output().expect("it can be started");
        assert!(ran.status.success(), "{}: {}", program.display(), ran.status);
        String::from_utf8(ran.stdout).expect("it prints text")
    };
    // The age of the oldest entry may change between the two.
    let same = (0..10).any(|_| run(&consolidate) == run(&native));
    assert!(same, "{}\nis not\n{}", run(&consolidate), run(&native));
    let parties = vec![
        Party::new("component", || drop(run(&consolidate))),
        Party::new("native", || drop(run(&native))),
    ];
    let what = format!("`consolidate status`, the whole process, {ENTRIES} entries");
    Turns::new(form, Duration::from_secs(15)).take("cold-start", &what, parties)
}

/// Once in the life of a process: the engine, and the component as it was compiled ahead of time.
fn runtime_of_its_own(form: Form) -> Figure {
    let parties = vec![Party::new("component", || drop(Runtime::new().expect("wasmtime runs here")))];
    turns(form).take("runtime", "make a runtime", parties)
}

/// What a workspace's first call pays beyond a later one.
fn instantiate(form: Form, place: &Place) -> Figure {
    let directory = place.directory();
    let instances = Instances::new(runtime(), directory.path()).expect("the directory opens");
    let parties = vec![Party::new("component", || assert!(instances.make()))];
    turns(form).take("instantiate", "make an instance and drop it", parties)
}

/// A workspace is opened, and its first call makes an instance.
fn first_call(form: Form, place: &Place) -> Figure {
    let [component, native] = [place.directory(), place.directory()];
    for directory in [&component, &native] {
        fs::create_dir(directory.path().join(STAGING)).expect("created");
    }
    let parties = vec![
        Party::new("component", || assert!(open(component.path()).list().expect("listed").is_empty())),
        Party::new("native", || {
            let native = Native::open(native.path(), Durability::None);
            assert!(native.workspace.entry_ids().expect("listed").is_empty());
        }),
    ];
    turns(form).take("first-call", "open a workspace and list its entries: the first call", parties)
}

/// What is carried about.
fn sizes() -> [Figure; 2] {
    let component = concat!(env!("CARGO_MANIFEST_DIR"), "/component/consolidation.wasm");
    let image = concat!(env!("OUT_DIR"), "/ample.cwasm");
    [
        ("component-size", "the component", component),
        ("image-size", "the component, compiled ahead of time", image),
    ]
    .map(|(id, what, path)| {
        let bytes = fs::metadata(path).expect("it was built").len();
        Figure::new(id, what, "kB").with("component", Spread::exactly(bytes as f64 / 1e3))
    })
}

/// Where cargo puts programs of the profile of this one.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    program.ancestors().nth(2).expect("it is in a folder of cargo's").to_owned()
}

/// Builds the native program with the profile of this one.
fn build_native() -> PathBuf {
    let folder = target_folder();
    let target = folder.parent().expect("of the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--package", "consolidation-host"]);
    cargo.args(["--example", "native-status", "--target-dir"]).arg(target);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo can be started");
    assert!(built.success(), "the native program can't be built");
    folder.join("examples").join("native-status")
}
