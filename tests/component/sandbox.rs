//! What a guest can reach: the one directory, the clocks, randomness, the `process` import, and
//! nothing else. The probes are the shipped component with hostile code in the place of some exports.

use super::patched::{Component, Instruction, RESULT, SCRATCH, STAGING, byte, shipped, trap, word};
use super::{POD, open, open_with, payload, payloads, refused};
use crate::support::{MINIMAL, TestWorkspace, names};
use consolidation_host::{Error, ErrorCode, Runtime, Workspace};
use std::fs;
use std::os::unix::fs::symlink;
use wasmtime::Engine;
use wasmtime::component::Component as Compiled;

/// Where the results of three probes are, apart from each other: what they don't write stays zero,
/// which is a success with nothing in it.
const LISTED: i32 = RESULT;
const COUNTED: i32 = RESULT + 128;
const OPENED: i32 = RESULT + 256;

const FILES: &str = "wasi:filesystem/types";
const SYMLINK_FOLLOW: i32 = 1;
const CREATE: i32 = 1;
const READ: i32 = 1;
const WRITE: i32 = 2;

fn runtime(component: &Component) -> Runtime {
    Runtime::builder().component_bytes(component.bytes()).build().expect("it fits the WIT world")
}

/// Opens the path that is the first argument, and tells whether that worked.
fn open_path(component: &Component, create: i32, rights: i32) -> Vec<Instruction<'static>> {
    use Instruction::{I32Const, I32Load, I32Load8U, I32Store8, LocalGet};
    vec![
        I32Const(SCRATCH),
        component.import("wasi:filesystem/preopens", "get-directories"),
        I32Const(OPENED),
        I32Const(SCRATCH),
        I32Load(word(0)),
        I32Load(word(0)),
        I32Const(SYMLINK_FOLLOW),
        LocalGet(0),
        LocalGet(1),
        I32Const(create),
        I32Const(rights),
        I32Const(SCRATCH + 16),
        component.import(FILES, "[method]descriptor.open-at"),
        I32Const(SCRATCH + 16),
        I32Load8U(byte(0)),
        I32Store8(byte(0)),
        I32Const(OPENED),
    ]
}

#[test]
fn component_imports_nothing_but_files_clocks_randomness_streams_and_processes() {
    let engine = Engine::default();
    let component = Compiled::from_binary(&engine, &shipped()).expect("it compiles");
    let ty = component.component_type();
    let mut imports: Vec<String> =
        ty.imports(&engine).map(|(name, _)| name.split('@').next().unwrap_or_default().to_owned()).collect();
    imports.sort_unstable();
    imports.dedup();
    for import in &imports {
        let allowed = match import.split_once('/') {
            Some(("wasi:io" | "wasi:clocks" | "wasi:random" | "wasi:filesystem", _)) => true,
            // For the last words of a panic. No environment, no arguments and no exit.
            Some(("wasi:cli", interface)) => interface == "stderr",
            Some(("insomnia:consolidation", interface)) => matches!(interface, "types" | "process" | "files"),
            _ => false,
        };
        assert!(allowed, "it imports {import}");
    }
    assert!(imports.iter().any(|import| import == "insomnia:consolidation/process"), "{imports:?}");
    let mut exports: Vec<&str> = ty.exports(&engine).map(|(name, _)| name).collect();
    exports.sort_unstable();
    assert_eq!(
        exports,
        ["doctor", "lock", "memory", "quarantine", "runs", "staging"]
            .map(|name| format!("insomnia:consolidation/{name}@0.1.0"))
    );
}

#[test]
fn component_that_wants_the_network_is_refused() {
    use wasm_encoder::{
        ComponentImportSection, ComponentTypeRef, ComponentTypeSection, ComponentValType, InstanceType,
    };
    for import in [
        "wasi:sockets/network@0.2.0",
        "wasi:sockets/tcp@0.2.0",
        "wasi:sockets/ip-name-lookup@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:config/store@0.2.0",
    ] {
        let mut component = wasm_encoder::Component::new();
        let mut types = ComponentTypeSection::new();
        let mut instance = InstanceType::new();
        instance.ty().function().params([] as [(&str, ComponentValType); 0]).result(None);
        instance.export("any", ComponentTypeRef::Func(0));
        types.instance(&instance);
        component.section(&types);
        let mut imports = ComponentImportSection::new();
        imports.import(import, ComponentTypeRef::Instance(0));
        component.section(&imports);
        let built = Runtime::builder().component_bytes(component.finish()).build();
        let error = refused(built, ErrorCode::Internal);
        assert!(error.to_string().contains(import), "{error}");
    }
}

#[test]
fn guest_has_one_directory() {
    use Instruction::{I32Const, I32Load, I32Store};
    let shipped = Component::shipped();
    let directories = [
        I32Const(SCRATCH),
        shipped.import("wasi:filesystem/preopens", "get-directories"),
        I32Const(COUNTED),
        I32Const(SCRATCH),
        I32Load(word(4)),
        I32Store(word(8)),
        I32Const(COUNTED),
    ];
    let probe = shipped.with(STAGING, "summarize", &directories);
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&probe), &place);
    assert_eq!(workspace.summarize().expect("answered").entries, 1);
}

#[test]
fn guest_gets_out_of_the_directory_by_no_path() {
    let shipped = Component::shipped();
    let (look, make) = (open_path(&shipped, 0, READ), open_path(&shipped, CREATE, WRITE));
    let probe = shipped.with(STAGING, "read", &look).with(STAGING, "write", &make);
    let place = TestWorkspace::new();
    let root = place.root().join("root");
    fs::create_dir_all(root.join("inside")).expect("made");
    fs::create_dir(place.root().join("outside")).expect("made");
    fs::write(root.join("inside/file"), "").expect("written");
    fs::write(place.root().join("outside/secret"), "").expect("written");
    for (link, target) in [
        ("good", "inside/file"),
        ("good-directory", "inside/"),
        ("secret", "../outside/secret"),
        ("up", ".."),
        ("up-slash", "../"),
        ("outside", "../outside"),
        ("outside-slash", "../outside/"),
        ("through", "inside/../../outside"),
        ("etc", "/etc"),
        ("etc-slash", "/etc/"),
        ("root", "/"),
        ("hop", "up/outside/secret"),
        ("proc", "/proc/self/root"),
        ("loop", "loop"),
    ] {
        symlink(target, root.join(link)).expect("linked");
    }
    let workspace = runtime(&probe).open(&root).expect("it opens");
    for path in ["inside/file", "good", "good-directory/file", "inside/../inside/file", ".", "inside/"] {
        workspace.read(path).unwrap_or_else(|error| panic!("{path} is inside: {error}"));
    }
    for path in [
        "..",
        "../",
        "../outside/secret",
        "./../outside/secret",
        "inside/../../outside/secret",
        "/",
        "//",
        "/etc/hostname",
        "secret",
        "secret/",
        "up",
        "up/",
        "up/outside/secret",
        "up//outside//secret",
        "up-slash",
        "up-slash/",
        "up-slash/outside/secret",
        "outside",
        "outside/",
        "outside/.",
        "outside/secret",
        "outside//secret",
        "outside-slash",
        "outside-slash/",
        "outside-slash/secret",
        "through/secret",
        "etc",
        "etc/",
        "etc//hostname",
        "etc-slash",
        "etc-slash/",
        "etc-slash/hostname",
        "root/",
        "root/etc/hostname",
        "hop",
        "proc/etc/hostname",
        "loop",
        "",
        "inside/file\0/../../../outside/secret",
    ] {
        assert!(workspace.read(path).is_err(), "{path:?} leads outside");
    }
    workspace.stage("inside/made").expect("this is inside");
    for path in
        ["../made", "up/made", "outside/made", "outside-slash/made", "up-slash/outside/made", "/tmp/../made"]
    {
        assert!(workspace.stage(path).is_err(), "{path:?} leads outside");
    }
    assert_eq!(names(place.root()), ["outside", "root"]);
    assert_eq!(names(&place.root().join("outside")), ["secret"]);
    assert_eq!(names(&root.join("inside")), ["file", "made"]);
}

#[test]
fn what_a_guest_prints_is_not_printed() {
    use Instruction::{I32Const, LocalGet};
    const SAYING: &str = "said-by-the-guest";
    let name = concat!(module_path!(), "::what_a_guest_prints_is_not_printed");
    super::own_process::alone_and_heard(
        name,
        || {
            let shipped = Component::shipped();
            // The text is the arguments 0 and 1.
            let code = [
                shipped.import("wasi:cli/stderr", "get-stderr"),
                LocalGet(0),
                LocalGet(1),
                I32Const(SCRATCH),
                shipped.import("wasi:io/streams", "[method]output-stream.blocking-write-and-flush"),
                I32Const(OPENED),
            ];
            let probe = shipped.with(STAGING, "read", &code).with(STAGING, "list", &trap());
            let place = TestWorkspace::new();
            let workspace = open_with(&runtime(&probe), &place);
            workspace.read(SAYING).expect("printing is no error");
            // It did print: the message of a trap has the last words of the guest.
            let error = refused(workspace.list(), ErrorCode::Internal);
            assert!(error.to_string().contains(SAYING), "{error}");
            // What is kept of it is bounded, and printing more is the guest's own fault.
            for _ in 0..1_000 {
                let _ = workspace.read(SAYING);
            }
            workspace.stage(MINIMAL).expect("the workspace works still");
        },
        |printed| assert!(!printed.contains(SAYING), "{printed}"),
    );
}

/// Descriptors that a guest opens and never closes are bounded, and closed with its instance.
#[test]
fn guest_that_hoards_descriptors_is_stopped() {
    use Instruction::{Br, End, I32Const, I32Load, I32Store8, Loop, Unreachable};
    let name = concat!(module_path!(), "::guest_that_hoards_descriptors_is_stopped");
    super::own_process::alone(name, || {
        let shipped = Component::shipped();
        let hoard = [
            I32Const(SCRATCH),
            shipped.import("wasi:filesystem/preopens", "get-directories"),
            I32Const(SCRATCH + 64),
            I32Const(i32::from(b'.')),
            I32Store8(byte(0)),
            Loop(wasm_encoder::BlockType::Empty),
            I32Const(SCRATCH),
            I32Load(word(0)),
            I32Load(word(0)),
            I32Const(0),
            I32Const(SCRATCH + 64),
            I32Const(1),
            I32Const(0),
            I32Const(READ),
            I32Const(SCRATCH + 16),
            shipped.import(FILES, "[method]descriptor.open-at"),
            Br(0),
            End,
            Unreachable,
        ];
        let place = TestWorkspace::new();
        let workspace = open_with(&runtime(&shipped.with(STAGING, "list", &hoard)), &place);
        workspace.stage(MINIMAL).expect("staged");
        let before = descriptors();
        for _ in 0..3 {
            assert!(matches!(workspace.list(), Err(Error::Trap { .. })));
        }
        workspace.stage(MINIMAL).expect("another instance works");
        assert!(descriptors() <= before + 8, "{} descriptors were left open", descriptors() - before);
    });
}

#[test]
fn guest_that_asks_the_host_for_too_much_is_stopped() {
    use Instruction::{Drop, I32Const, I32Store, I64Const, MemoryGrow, Unreachable};
    let shipped = Component::shipped();
    let random = [
        I64Const(4 << 30),
        I32Const(SCRATCH),
        shipped.import("wasi:random/random", "get-random-bytes"),
        Unreachable,
    ];
    // 125 MiB that read as 16 million empty texts, which would take three times as much in the host.
    let long_list = [
        I32Const(2_000),
        MemoryGrow(0),
        Drop,
        I32Const(LISTED),
        I32Const(2 << 20),
        I32Store(word(8)),
        I32Const(LISTED),
        I32Const(16_000_000),
        I32Store(word(12)),
        I32Const(LISTED),
    ];
    let probe = shipped.with(STAGING, "summarize", &random).with(STAGING, "list", &long_list);
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&probe), &place);
    assert!(matches!(workspace.summarize(), Err(Error::Trap { .. } | Error::OutOfMemory { .. })));
    assert!(matches!(workspace.list(), Err(Error::Trap { .. } | Error::OutOfMemory { .. })));
    workspace.stage(MINIMAL).expect("another instance works");
}

/// The honest side of those limits: what a workspace with very many entries gives is passed on.
#[test]
fn result_of_very_many_ids_is_passed_on() {
    use Instruction::{I32Const, I32Store, MemoryGrow};
    const IDS: i32 = 1_000_000;
    let shipped = Component::shipped();
    let list = [
        I32Const(400),
        MemoryGrow(0),
        Instruction::Drop,
        I32Const(LISTED),
        I32Const(2 << 20),
        I32Store(word(8)),
        I32Const(LISTED),
        I32Const(IDS),
        I32Store(word(12)),
        I32Const(LISTED),
    ];
    let probe = shipped.with(STAGING, "list", &list).with_after(STAGING, "list", &[]);
    let place = TestWorkspace::new();
    let workspace = open_with(&runtime(&probe), &place);
    assert_eq!(workspace.list().expect("passed on").len(), IDS as usize);
}

#[test]
fn workspaces_do_not_see_each_other() {
    let (one, other) = (TestWorkspace::new(), TestWorkspace::new());
    let runtime = Runtime::new().expect("a runtime");
    let (first, second) = (open_with(&runtime, &one), open_with(&runtime, &other));
    let id = first.stage(&payload(1)).expect("staged");
    assert_eq!(second.list().expect("listed"), [] as [String; 0]);
    refused(second.read(&id), ErrorCode::NotFound);
    let lock = first.acquire(POD).expect("the lock is free");
    second.acquire(POD).expect("it has a lock of its own").release_only(None).expect("it is released");
    lock.release_only(None).expect("it is released");
}

#[test]
fn probe_that_changes_nothing_works_as_the_shipped_component() {
    let place = TestWorkspace::new();
    let workspace: Workspace = open_with(&runtime(&Component::shipped()), &place);
    let id = workspace.stage(&payload(1)).expect("staged");
    assert_eq!(open(&place).list().expect("listed"), [id]);
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    fs::read_dir(if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" })
        .expect("the descriptors are listed")
        .count()
}

#[test]
fn many_calls_leave_no_descriptors_open() {
    let name = concat!(module_path!(), "::many_calls_leave_no_descriptors_open");
    super::own_process::alone(name, || {
        let place = TestWorkspace::new();
        let workspace = open(&place);
        let round = |number| {
            let id = workspace.stage(&payload(number)).expect("staged");
            let lock = workspace.acquire(POD).expect("the lock is free");
            let snapshot = lock.snapshot(consolidation_host::Limits::default()).expect("taken");
            assert_eq!(snapshot.next_batch(10, 1 << 20).expect("read").entries.len(), 1);
            lock.record_snapshot(&snapshot).expect("recorded");
            drop(snapshot);
            // Refusals take another way out.
            refused(workspace.acquire(POD), ErrorCode::InUse);
            refused(workspace.read("no id"), ErrorCode::InvalidInput);
            assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
            refused(workspace.read(&id), ErrorCode::NotFound);
        };
        (0..20).for_each(round);
        let before = descriptors();
        (0..2_000).for_each(round);
        let after = descriptors();
        assert!(after <= before + 8, "{before} descriptors were open, and {after} are");
    });
}

/// A process that has used up its descriptors, as one with very many workspaces may have. wasmtime-wasi has no word
/// for it.
#[cfg(lean_wasi)]
#[test]
fn call_without_a_descriptor_to_be_had_names_the_limit_and_the_next_one_works() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let name = concat!(
        module_path!(),
        "::call_without_a_descriptor_to_be_had_names_the_limit_and_the_next_one_works"
    );
    super::own_process::alone(name, || {
        let place = TestWorkspace::new();
        let workspace = open(&place);
        let id = workspace.stage(&payload(1)).expect("staged");
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).expect("limited");
        let staged = workspace.stage(&payload(2)).map_err(|error| error.to_string());
        let counted = workspace.summarize().map_err(|error| error.to_string());
        let taken = workspace.acquire(POD).map(drop).map_err(|error| error.to_string());
        setrlimit(Resource::Nofile, before).expect("no longer limited");
        for refusal in [staged.err(), counted.err(), taken.err()] {
            let refusal = refusal.expect("there is no descriptor");
            assert!(refusal.contains("out of memory or of open files"), "{refusal}");
            assert!(refusal.contains("`ulimit -n`"), "{refusal}");
        }
        assert_eq!(workspace.list().expect("listed"), [id]);
        drop(workspace.acquire(POD).expect("the lock is free"));
    });
}

/// Entries are opened one at a time.
#[test]
fn few_descriptors_are_enough_for_many_entries() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let name = concat!(module_path!(), "::few_descriptors_are_enough_for_many_entries");
    super::own_process::alone(name, || {
        const COUNT: u64 = 2_000;
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).expect("limited");
        let place = TestWorkspace::new();
        let workspace = open(&place);
        workspace.stage_many(&payloads(COUNT), None).expect("staged");
        assert_eq!(workspace.summarize().expect("counted").entries, COUNT);
        let lock = workspace.acquire(POD).expect("the lock is free");
        let snapshot = lock.snapshot(consolidation_host::Limits::default()).expect("taken");
        while !snapshot.next_batch(500, u64::MAX).expect("read").done {}
        lock.record_snapshot(&snapshot).expect("recorded");
        drop(snapshot);
        assert_eq!(lock.release_with_cleanup().expect("it is released").removed, COUNT);
    });
}
