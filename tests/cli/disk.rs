//! Disks that are full, mounted read-only or closed to us. Each script runs in a mount namespace of
//! its own, so that nothing stays mounted whatever happens; where that is not permitted the test
//! says so and passes.

use super::process::{CONSOLIDATE, Program, Ran, payload, payloads};
use crate::support::TestWorkspace;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// What the steps of a script printed and how they ended.
struct Steps {
    results: TempDir,
    names: HashMap<String, i32>,
}

impl Steps {
    fn code(&self, step: &str) -> i32 {
        *self.names.get(step).unwrap_or_else(|| panic!("there is no step {step}"))
    }

    fn out(&self, step: &str) -> String {
        fs::read_to_string(self.results.path().join(format!("{step}.out"))).expect("a step's output")
    }

    fn err(&self, step: &str) -> String {
        fs::read_to_string(self.results.path().join(format!("{step}.err"))).expect("a step's messages")
    }

    #[track_caller]
    fn exits(&self, step: &str, code: i32) {
        let (out, err) = (self.out(step), self.err(step));
        assert_eq!(self.code(step), code, "{step}\n--- stdout\n{out}--- stderr\n{err}");
        assert!(!err.contains("panicked"), "{step}: {err}");
    }

    /// The error document of a step that must have failed as an input or output error.
    #[track_caller]
    fn io_error(&self, step: &str) -> serde_json::Value {
        self.exits(step, 74);
        let out = self.out(step);
        let mut document: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|error| {
            panic!("{step}: {error}: {out:?}");
        });
        document["error"].take()
    }
}

/// Runs a script with a small file system mounted at `$ROOT`. In it `step NAME COMMAND...` runs a
/// command, and `fill` takes up all space that is left.
fn on_small_disk(size: &str, script: &str) -> Option<Steps> {
    let head = r#"
        mount -t tmpfs -o "size=$SIZE" none "$ROOT" || exit 99
        cd "$ROOT" || exit 99
        consolidate() { "$CONSOLIDATE" --root "$ROOT" "$@"; }
        step() {
            name=$1
            shift
            "$@" > "$RESULTS/$name.out" 2> "$RESULTS/$name.err"
            echo $? > "$RESULTS/$name.code"
        }
        fill() { dd if=/dev/zero of="$ROOT/filler$1" bs=4096 2> /dev/null; true; }
        "#;
    let results = tempfile::tempdir().expect("a temporary directory");
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::write(results.path().join("payloads"), payloads(0..3)).expect("a file");
    let isolate = "exec unshare --mount sh -c \"$SCRIPT\"";
    let ran = Program::shell(isolate)
        .env("SCRIPT", format!("{head}{script}"))
        .env("ROOT", root.path())
        .env("RESULTS", results.path())
        .env("SIZE", size)
        .run();
    if ran.status.code() == Some(99) || ran.err.contains("unshare") {
        eprintln!("skipped: nothing can be mounted here: {}", ran.err.trim());
        return None;
    }
    ran.exits(0);
    let mut names = HashMap::new();
    for name in crate::support::names(results.path()) {
        if let Some(step) = name.strip_suffix(".code") {
            let code = fs::read_to_string(results.path().join(&name)).expect("a step's code");
            names.insert(step.to_owned(), code.trim().parse().expect("a step's code"));
        }
    }
    Some(Steps { results, names })
}

#[test]
fn full_disk_is_an_error_that_harms_nothing_and_passes() {
    let script = r#"
        step first consolidate stage "$RESULTS/payloads"
        fill
        step stage consolidate --json stage "$RESULTS/payloads"
        step run consolidate --json run -- touch "$RESULTS/started"
        step unlock consolidate unlock
        step files find _staging
        step list consolidate list --json
        step status consolidate status
        rm filler
        step again consolidate stage "$RESULTS/payloads"
        step consolidated consolidate run -- sh -c 'cat > "$RESULTS/lines"'
        step left find _staging -type f
        "#;
    let Some(steps) = on_small_disk("128k", script) else { return };
    steps.exits("first", 0);
    assert_eq!(steps.io_error("stage")["code"], "no_space");
    assert_eq!(steps.io_error("run")["code"], "no_space");
    assert!(!steps.results.path().join("started").exists());
    steps.exits("unlock", 0);
    let files = steps.out("files");
    assert_eq!(files.lines().filter(|file| file.ends_with(".json")).count(), 3, "{files}");
    // The three entries, the directory and perhaps that of the owner flags.
    assert!(files.lines().count() <= 5 && !files.contains(".tmp") && !files.contains(".lock"), "{files}");
    let listed: serde_json::Value = serde_json::from_str(&steps.out("list")).expect("JSON");
    assert_eq!(listed["entries"].as_array().map(Vec::len), Some(3));
    assert_eq!(listed["unusable"], serde_json::json!([]));
    steps.exits("status", 0);
    steps.exits("again", 0);
    steps.exits("consolidated", 0);
    assert_eq!(steps.out("consolidated"), "consolidated 6 entries\n");
    assert_eq!(steps.out("left"), "");
}

/// Space for the lock, and none for the record with the ids.
#[test]
fn disk_that_fills_up_under_the_lock_keeps_the_entries_and_frees_the_lock() {
    let script = r#"
        i=0
        while [ $i -lt 40 ]; do cat "$RESULTS/payloads"; i=$((i + 1)); done > "$RESULTS/many"
        step first consolidate stage "$RESULTS/many"
        step warm consolidate run -- false
        fill 1
        # One page comes free: the flag and the lock, which are one file, fit in.
        dd if=/dev/null of=filler1 bs=4096 seek=$(($(stat -c %s filler1) / 4096 - 1)) 2> /dev/null
        step run consolidate --json run -- touch "$RESULTS/started"
        step files find _staging
        rm filler1
        step consolidated consolidate run -- sh -c 'cat > "$RESULTS/lines"'
        step left find _staging -type f
        "#;
    let Some(steps) = on_small_disk("1m", script) else { return };
    steps.exits("first", 0);
    steps.exits("warm", 70);
    assert_eq!(steps.io_error("run")["code"], "no_space");
    assert!(!steps.results.path().join("started").exists(), "the command ran without its ids on the disk");
    let files = steps.out("files");
    assert_eq!(files.lines().filter(|file| file.ends_with(".json")).count(), 120, "{files}");
    assert!(!files.contains(".lock") && !files.contains(".tmp"), "{files}");
    assert_eq!(steps.out("consolidated"), "consolidated 120 entries\n");
    assert_eq!(steps.out("left"), "");
}

#[test]
fn read_only_disk_is_looked_at_and_not_written() {
    let script = r#"
        mkdir fresh other
        step first consolidate stage "$RESULTS/payloads"
        step warm consolidate run -- false
        mount -o remount,ro "$ROOT" || exit 99
        step list consolidate list --json
        step status consolidate status --json
        step unlock consolidate unlock --json
        step stage consolidate --json stage "$RESULTS/payloads"
        step people consolidate stage "$RESULTS/payloads"
        step run consolidate --json run -- touch "$RESULTS/started"
        step fresh-list "$CONSOLIDATE" --root fresh list
        step fresh-status "$CONSOLIDATE" --root fresh status
        step fresh-stage "$CONSOLIDATE" --json --root fresh stage "$RESULTS/payloads"
        step fresh-run "$CONSOLIDATE" --json --root fresh run -- true
        mount -o remount,rw "$ROOT" || exit 99
        step consolidated consolidate run -- sh -c 'cat > "$RESULTS/lines"'
        "#;
    let Some(steps) = on_small_disk("1m", script) else { return };
    for step in ["list", "status", "unlock", "fresh-list", "fresh-status"] {
        steps.exits(step, 0);
    }
    for step in ["stage", "run", "fresh-stage", "fresh-run"] {
        let error = steps.io_error(step);
        assert_eq!(error["code"], "read_only", "{step}: {error}");
    }
    steps.exits("people", 74);
    assert!(steps.err("people").contains("read-only"), "{}", steps.err("people"));
    assert_eq!(steps.err("people").lines().count(), 1);
    assert!(!steps.results.path().join("started").exists());
    assert_eq!(steps.out("consolidated"), "consolidated 3 entries\n");
}

/// As somebody whom modes mean something to. None, and says why, if that can't be arranged.
fn as_nobody(script: &str, workspace: &TestWorkspace) -> Option<Ran> {
    let root = rustix::process::geteuid().is_root();
    let prefix = if root { "exec setpriv --reuid=65534 --regid=65534 --clear-groups " } else { "exec " };
    let program = |script: &str| {
        Program::shell(&format!("{prefix}sh -c \"$SCRIPT\""))
            .env("SCRIPT", script)
            .env("ROOT", workspace.root())
            .current_dir(workspace.root())
    };
    // The program may lie where others can't reach it.
    let reachable = program(&format!("'{CONSOLIDATE}' --version && test -x \"$ROOT\"")).run();
    if !reachable.status.success() {
        eprintln!("skipped: consolidate can't be run as another user: {}", reachable.err.trim());
        return None;
    }
    Some(program(script).run())
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode is set");
}

#[test]
fn directory_that_may_not_be_written_is_looked_at() {
    let workspace = TestWorkspace::new();
    set_mode(workspace.root(), 0o755);
    workspace.stage(2);
    set_mode(&workspace.staging(), 0o555);
    if !rustix::process::geteuid().is_root() {
        set_mode(workspace.root(), 0o555);
    }
    let script = r#"
        "$CONSOLIDATE" --root . list --json && "$CONSOLIDATE" --root . status --json || exit 9
        echo '{}' | "$CONSOLIDATE" --json --root . stage --segment s --range 0..1; echo $?
        "$CONSOLIDATE" --json --root . run -- true; echo $?
        "#;
    let ran = as_nobody(script, &workspace);
    set_mode(&workspace.staging(), 0o755);
    set_mode(workspace.root(), 0o755);
    let Some(ran) = ran else { return };
    let lines = ran.exits(0).lines();
    assert_eq!(lines.len(), 6, "{lines:?}");
    for (document, code) in [(&lines[2], &lines[3]), (&lines[4], &lines[5])] {
        assert_eq!(code, "74", "{document}");
        assert!(document.contains("permission_denied"), "{document}");
    }
    assert_eq!(workspace.ids().len(), 2);
}

#[test]
fn root_that_may_not_be_searched_is_named() {
    let workspace = TestWorkspace::new();
    set_mode(workspace.root(), 0o755);
    for mode in [0o000, 0o300, 0o400] {
        let root = workspace.root().join(format!("root-{mode:o}"));
        fs::create_dir(&root).expect("a directory");
        if !rustix::process::geteuid().is_root() {
            set_mode(&root, mode);
        } else {
            // Others have the rights in question.
            set_mode(&root, mode >> 6);
        }
        let script = format!("\"$CONSOLIDATE\" --root root-{mode:o} list --json; echo $?");
        let ran = as_nobody(&script, &workspace);
        set_mode(&root, 0o755);
        let Some(ran) = ran else { return };
        let lines = ran.exits(0).lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[1] == "0" || lines[1] == "74" && lines[0].contains(&format!("root-{mode:o}")),
            "{lines:?}"
        );
        assert!(!lines[0].contains("Uncategorized") && !lines[0].contains("os error 44"), "{lines:?}");
    }
}

#[test]
fn entry_that_may_not_be_read_is_unusable_and_stays() {
    let workspace = TestWorkspace::new();
    set_mode(workspace.root(), 0o777);
    let ids = workspace.stage(2);
    set_mode(&workspace.staging(), 0o777);
    set_mode(&workspace.staged(&format!("{}.json", ids[0])), 0o000);
    let script = "umask 0; \"$CONSOLIDATE\" --root . run -- sh -c 'cat > lines'";
    let Some(ran) = as_nobody(script, &workspace) else { return };
    let ran = ran.exits(0);
    assert_eq!(ran.out, "consolidated 1 entry\n");
    assert!(ran.err.contains(&ids[0]), "{}", ran.err);
    assert_eq!(workspace.ids(), ids[..1]);
}

#[test]
fn memory_that_is_short_is_an_error_and_no_loss() {
    // In kB: from too little address space for the program itself over too little for its threads to
    // enough. What a run with so much can't do, it does not do by half.
    for limit in (20_000..=70_000).step_by(5_000) {
        let workspace = TestWorkspace::new();
        workspace.consolidate(["stage"]).input(payload(1)).run().exits(0);
        let script = format!("ulimit -v {limit}; exec \"$CONSOLIDATE\" --json run -- true");
        let ran = Program::shell(&script).current_dir(workspace.root()).run();
        assert_eq!(workspace.ids().len(), usize::from(!ran.status.success()), "{limit}: {ran:?}");
        workspace.run_shell(&["--wait", "30"], "cat > lines").run().exits(0);
        assert_eq!(workspace.ids(), Vec::<String>::new());
    }
}

/// The sandbox begins with a memory image in a file of its own, which such a limit has no room for.
#[test]
fn what_the_host_lacks_is_no_defect_of_the_component() {
    let workspace = TestWorkspace::new();
    let script = "ulimit -f 2; exec \"$CONSOLIDATE\" status";
    let ran = Program::shell(script).current_dir(workspace.root()).run().exits(74);
    assert!(ran.err.contains("the sandbox can't be set up"), "{}", ran.err);
    assert!(!ran.err.contains("defect"), "{}", ran.err);
}

/// At some limits the sandbox has all that it needs, and the command has not.
#[test]
fn command_that_the_system_refuses_to_start_is_a_fault_of_nobody() {
    let mut refused = 0;
    for limit in 8..=20 {
        let workspace = TestWorkspace::new();
        workspace.stage(1);
        let script =
            format!("ulimit -n {limit}; exec \"$CONSOLIDATE\" run --max-attempts 1 --updates -- true");
        let ran = Program::shell(&script).current_dir(workspace.root()).run();
        assert!(matches!(ran.status.code(), Some(0 | 74)), "{limit}: {ran:?}");
        refused += usize::from(ran.err.contains("cannot start the command"));
        assert!(ran.status.success() || ran.err.contains("`ulimit -n`"), "{limit}: {ran:?}");
        assert!(!workspace.staged("quarantine").exists(), "{limit}: {ran:?}");
        assert_eq!(workspace.ids().len(), usize::from(!ran.status.success()), "{limit}: {ran:?}");
    }
    assert!(refused > 0);
}

/// As large a file as this process may not make is told from a disk that is full, which has another remedy.
#[test]
fn entry_beyond_the_limit_on_the_size_of_files_is_not_staged_and_the_limit_is_named() {
    let workspace = TestWorkspace::new();
    // 64 or 128 KiB, as the shell counts blocks: the sandbox has room to begin with.
    let script = "ulimit -f 128; exec \"$CONSOLIDATE\" stage";
    let long = format!(
        "{{\"source\":{{\"segment_id\":\"s\",\"range\":[0,1]}},\"note\":\"{}\"}}",
        "x".repeat(300_000)
    );
    let ran = Program::shell(script).current_dir(workspace.root()).input(long).run().exits(74);
    assert!(ran.err.contains("file too large") && ran.err.contains("`ulimit -f`"), "{}", ran.err);
    assert_eq!(workspace.ids(), Vec::<String>::new());
}
