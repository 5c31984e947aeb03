//! What all subcommands have in common: help, exit codes, one JSON document, the root.

use super::process::{CONSOLIDATE, Program, payload, payloads, tidy};
use crate::support::{TestWorkspace, original_record};
use insta::assert_snapshot;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

fn help(arguments: &[&str]) -> String {
    Program::consolidate(arguments).run().exits(0).out
}

#[test]
fn help_names_the_subcommands_and_the_exit_codes() {
    assert_snapshot!(help(&["--help"]), @"
    Stages what agents learn and consolidates it, one run at a time

    Usage: consolidate [OPTIONS] <COMMAND>

    Commands:
      stage       Stage payloads: one JSON object, or JSON Lines; prints their ids in input order
      list        List the staged entries, oldest first
      status      Show what is staged, what is unusable and who holds the lock
      run         Run a command or a plugin over everything that is staged; what it has dealt with goes
      log         Show past runs, the one that ended last first: how, when, by whom, what it took and
                  changed
      undo        Put the memory records that a run changed back to what they were before it
      memory      List memory records, or show one
      quarantine  List, retry or drop entries that a consolidator failed on again and again
      schema      Print the JSON Schema of the updates that `run --updates` reads, line by line
      doctor      Name what is left over or out of order, and remove it with --fix
      unlock      Remove a lock that is stale or unreadable, or any with --force
      help        Print this message or the help of the given subcommand(s)

    Options:
          --root <DIR>        The workspace: an existing directory [env: CONSOLIDATION_ROOT=] [default:
                              .]
          --json              Print one JSON document on standard output instead of text
          --durability <HOW>  What must survive a crash of the machine: `full`, what a command reports
                              as done; `none`, nothing (for tests, and for file systems in memory) [env:
                              CONSOLIDATION_DURABILITY=] [default: full]
          --coexist           Other programs write this lock too, without exclusion: take it only after
                              it has stood for 100 ms, and look twice before a stale one is removed. All
                              who use this workspace must set it [env: CONSOLIDATION_COEXIST=]
      -h, --help              Print help
      -V, --version           Print version

    Exit codes:
       0  done, also when there was nothing to do, or nothing yet (it says so)
       1  `doctor` found something that is left
       2  wrong usage
      65  bad input: a payload, an entry, a memory record or an id is not usable; nothing was done
      70  the consolidator failed, was interrupted, or is no usable plugin; its entries stay staged
      74  input or output error
      75  the lock is in use or was lost, a memory record was changed meanwhile, or the
          consolidator asks for it; try again later
    ");
}

#[test]
fn help_of_stage() {
    assert_snapshot!(help(&["stage", "--help"]), @"
    Stage payloads: one JSON object, or JSON Lines; prints their ids in input order

    Usage: consolidate stage [OPTIONS] [FILE]

    Arguments:
      [FILE]  JSON Lines, or one JSON object over any number of lines; standard input if left out or `-`

    Options:
          --root <DIR>          The workspace: an existing directory [env: CONSOLIDATION_ROOT=]
                                [default: .]
          --segment <ID>        Segment (session) id for payloads without a `source`
          --json                Print one JSON document on standard output instead of text
          --range <START..END>  Range in the segment for payloads without a `source`, for example 0..17
          --durability <HOW>    What must survive a crash of the machine: `full`, what a command reports
                                as done; `none`, nothing (for tests, and for file systems in memory)
                                [env: CONSOLIDATION_DURABILITY=] [default: full]
          --coexist             Other programs write this lock too, without exclusion: take it only
                                after it has stood for 100 ms, and look twice before a stale one is
                                removed. All who use this workspace must set it [env:
                                CONSOLIDATION_COEXIST=]
      -h, --help                Print help
    ");
}

#[test]
fn help_of_list() {
    assert_snapshot!(help(&["list", "--help"]), @"
    List the staged entries, oldest first

    Usage: consolidate list [OPTIONS]

    Options:
          --root <DIR>        The workspace: an existing directory [env: CONSOLIDATION_ROOT=] [default:
                              .]
          --json              Print one JSON document on standard output instead of text
          --durability <HOW>  What must survive a crash of the machine: `full`, what a command reports
                              as done; `none`, nothing (for tests, and for file systems in memory) [env:
                              CONSOLIDATION_DURABILITY=] [default: full]
          --coexist           Other programs write this lock too, without exclusion: take it only after
                              it has stood for 100 ms, and look twice before a stale one is removed. All
                              who use this workspace must set it [env: CONSOLIDATION_COEXIST=]
      -h, --help              Print help
    ");
}

#[test]
fn help_of_status() {
    assert_snapshot!(help(&["status", "--help"]), @"
    Show what is staged, what is unusable and who holds the lock

    Usage: consolidate status [OPTIONS]

    Options:
          --check             Read every entry too: count their bytes, and name those that can't be used
          --root <DIR>        The workspace: an existing directory [env: CONSOLIDATION_ROOT=] [default:
                              .]
          --json              Print one JSON document on standard output instead of text
          --durability <HOW>  What must survive a crash of the machine: `full`, what a command reports
                              as done; `none`, nothing (for tests, and for file systems in memory) [env:
                              CONSOLIDATION_DURABILITY=] [default: full]
          --coexist           Other programs write this lock too, without exclusion: take it only after
                              it has stood for 100 ms, and look twice before a stale one is removed. All
                              who use this workspace must set it [env: CONSOLIDATION_COEXIST=]
      -h, --help              Print help

    It counts files by their names and types, and opens none. How many bytes the entries have, and which
    of them can't be used, it says with --check; `doctor` reads them always.
    ");
}

#[test]
fn help_of_run() {
    assert_snapshot!(help(&["run", "--help"]), @r#"
    Run a command or a plugin over everything that is staged; what it has dealt with goes

    Usage: consolidate run [OPTIONS] -- CMD...
           consolidate run [OPTIONS] --updates -- CMD...
           consolidate run [OPTIONS] --plugin FILE

    Options:
          --pod <NAME>        Name of this pod in the lock; the host name if left out [env:
                              CONSOLIDATION_POD=]
          --root <DIR>        The workspace: an existing directory [env: CONSOLIDATION_ROOT=] [default:
                              .]
          --json              Print one JSON document on standard output instead of text
          --wait <SECONDS>    Wait so long for the lock; without it a lock in use is an error at once
                              [default: 0]
          --durability <HOW>  What must survive a crash of the machine: `full`, what a command reports
                              as done; `none`, nothing (for tests, and for file systems in memory) [env:
                              CONSOLIDATION_DURABILITY=] [default: full]
          --lease <SECONDS>   After how many seconds without a sign of life of this process those who
                              can't look at it (in another container or on another machine) may take the
                              lock over; 0: never, then a crash needs `unlock --force` there [default:
                              60]
          --coexist           Other programs write this lock too, without exclusion: take it only after
                              it has stood for 100 ms, and look twice before a stale one is removed. All
                              who use this workspace must set it [env: CONSOLIDATION_COEXIST=]
          --max-entries <N>   Take at most so many entries; the rest waits for the next run
          --max-bytes <B>     Take entries of at most so many bytes, but at least one; the rest waits
          --drain             Go on with another run until nothing is left, also with what is staged
                              meanwhile
      -h, --help              Print help

    Gates (one that is closed: nothing is done, exit code 0):
          --min-entries <N>         Do nothing unless at least so many entries are staged
          --min-bytes <B>           Do nothing unless their files have at least so many bytes
          --min-age <SECONDS>       Do nothing unless the oldest was staged at least so long ago
          --min-interval <SECONDS>  Do nothing unless the last run that was consolidated ended at least
                                    so long ago

    Plugins and commands that print updates:
          --plugin <FILE>         Consolidate with this plugin, a WebAssembly component (.wasm)
          --updates               CMD prints updates of memory records, as JSON Lines
          --dry-run               Show as a unified diff what would change; takes no lock, changes
                                  nothing
          --grant <NAME>          Give the plugin something that its sandbox does not have by itself;
                                  may stand more than once
          --plugin-memory <MIB>   How much memory the plugin may use [default: 256]
          --timeout <SECONDS>     How long one batch may take. A plugin is stopped then [default: 60], a
                                  command killed with all processes of its group [default: no limit]
          --max-updates <N>       How many updates one batch may give [default: 10000]
          --max-update-bytes <B>  How many bytes the texts of one update may have [default: 1048576]
          --max-log-bytes <B>     How many bytes a plugin may log; what is beyond is dropped [default:
                                  1048576]
          --batch-entries <N>     How many entries it gets at a time [default: 100]
          --batch-bytes <B>       About how many bytes of entries it gets at a time, but at least one
                                  entry [default: 1048576]
          --max-attempts <N>      After how many failed attempts an entry goes to the quarantine
                                  [default: 3]

    Arguments:
      [CMD]...  The command that consolidates, and its arguments

    One of three does the work:

    `-- CMD` gets all entries of the run as JSON Lines on standard input, oldest first: {"id": ...,
    "source": ..., ...}. Exit status 0 says that it has dealt with all of them, also if it did not
    read them all: they are consumed and deleted. Any other status, or a signal, keeps them: the next
    run gets them again.

    `--updates -- CMD` gets the entries batch by batch, in a process for each, and prints what memory
    records are to be, as JSON Lines on standard output (`consolidate schema` has the form of a line).
    Exit status 0 with no output says that nothing is to change; 75, that it may go better later: the
    run ends and no entry is blamed. So it does with 126 and 127: CMD can't be run. With any other
    status, a signal, or a line that is no update the batch has failed.

    `--plugin FILE` gets them batch by batch too. It is a WebAssembly component in a sandbox: no file,
    no network, no environment, no clock and no randomness, but for what --grant names.

    With these two, the records of memory are changed and the entries of the run consumed by one
    commit, or neither. A batch that failed is tried in smaller parts, until the entries at fault are
    found; they are left out, and after --max-attempts runs they go to the quarantine. If nothing at
    all succeeds, the run fails.

    A crash while it works, or just after it, before its success is on the disk, brings the entries
    again: CMD and plugins must bear to see an entry twice. SIGINT, SIGTERM and SIGHUP are passed on
    to CMD, and a second one kills it; a plugin is stopped, and what it was doing has no effect. What
    is not committed by then stays staged.
    "#);
}

#[test]
fn help_of_unlock() {
    assert_snapshot!(help(&["unlock", "--help"]), @"
    Remove a lock that is stale or unreadable, or any with --force

    Usage: consolidate unlock [OPTIONS]

    Options:
          --force             Remove the lock whoever holds it, dead, alive or unknown. It does not stop
                              the holder: its run notices, stops its command and deletes nothing
          --root <DIR>        The workspace: an existing directory [env: CONSOLIDATION_ROOT=] [default:
                              .]
          --json              Print one JSON document on standard output instead of text
          --reason <TEXT>     Why, for the log; only with --force
          --durability <HOW>  What must survive a crash of the machine: `full`, what a command reports
                              as done; `none`, nothing (for tests, and for file systems in memory) [env:
                              CONSOLIDATION_DURABILITY=] [default: full]
          --coexist           Other programs write this lock too, without exclusion: take it only after
                              it has stood for 100 ms, and look twice before a stale one is removed. All
                              who use this workspace must set it [env: CONSOLIDATION_COEXIST=]
      -h, --help              Print help

    Without --force it removes the lock of a dead owner, and a lock file that is no record and has not
    changed for 5 seconds: what the next run would remove too. Any other lock is exit code 75.
    ");
}

#[test]
fn help_lines_fit_their_width() {
    for subcommand in ["stage", "list", "status", "run", "unlock"] {
        for line in help(&[subcommand, "--help"]).lines() {
            assert!(line.len() <= 100, "{line}");
            // A line of one word is what is left of one that was too long.
            let heading = line.is_empty() || line.ends_with(':') || line.starts_with(' ');
            assert!(heading || line.contains(' '), "{subcommand}: {line}");
        }
    }
}

#[test]
fn gate_is_no_subcommand_for_people() {
    assert!(!help(&["--help"]).contains("gate"));
}

#[test]
fn version_is_that_of_the_package() {
    assert_eq!(help(&["--version"]), format!("consolidate {}\n", env!("CARGO_PKG_VERSION")));
}

/// clap would take the inner one, and something be done to the other workspace.
#[test]
fn workspace_that_is_given_before_and_behind_the_subcommand_is_refused() {
    let (one, other) = (TestWorkspace::new(), TestWorkspace::new());
    one.stage(1);
    let (one_root, other_root) = (one.root().to_str().expect("UTF-8"), other.root().to_str().expect("UTF-8"));
    let inner = format!("--root={one_root}");
    let ran = Program::consolidate(["--root", other_root, "list", &inner]).run().exits(2);
    assert!(ran.err.contains("'--root' is given more than once"), "{}", ran.err);
    Program::consolidate(["--durability", "none", "list", "--durability", "full", &inner]).run().exits(2);
    // What stands behind `--` is the command's.
    let command = ["run", &inner, "--", "echo", "--root", "x"];
    Program::consolidate(command).run().exits(0);
    assert_eq!(one.ids(), [] as [String; 0]);
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_wrong() {
    let cases: &[&[&str]] = &[
        &[],
        &["bogus"],
        &["list", "--bogus"],
        &["list", "extra"],
        &["run"],
        &["run", "--"],
        &["run", "true"],
        &["run", "--wait", "soon", "--", "true"],
        &["run", "--wait", "-1", "--", "true"],
        &["run", "--wait", "NaN", "--", "true"],
        &["run", "--wait", "1e300", "--", "true"],
        &["run", "--max-entries", "-1", "--", "true"],
        &["run", "--max-bytes", "many", "--", "true"],
        &["stage", "--segment", "s"],
        &["stage", "--range", "0..1"],
        &["stage", "--segment", "s", "--range", "5"],
        &["stage", "--segment", "s", "--range", "5..4"],
        &["stage", "--segment", "s", "--range=-1..4"],
        &["stage", "a.jsonl", "b.jsonl"],
        &["unlock", "--force=yes"],
    ];
    for arguments in cases {
        let people = Program::consolidate(*arguments).run().exits(2);
        assert_eq!(people.out, "", "{arguments:?}");
        assert!(people.err.contains("Usage:") || people.err.contains("--help"), "{}", people.err);

        let json = Program::consolidate(["--json"]).args(*arguments).run().exits(2);
        assert_eq!(json.json_error()["code"], "usage", "{arguments:?}");
    }
}

#[test]
fn json_is_asked_for_before_or_after_the_subcommand_but_not_of_the_command() {
    let workspace = TestWorkspace::new();
    workspace.consolidate(["--json", "list"]).run().exits(0).json();
    workspace.consolidate(["list", "--json"]).run().exits(0).json();
    Program::consolidate(["--bogus", "--json"]).run().exits(2).json_error();

    workspace.stage(1);
    let ran = workspace.consolidate(["run", "--", "echo", "--json"]).run().exits(0);
    assert_eq!(ran.out, "--json\nconsolidated 1 entry\n");
    // Wrong usage, and the command's arguments say nothing about how to report it.
    assert_eq!(workspace.consolidate(["run", "--bogus", "--", "echo", "--json"]).run().exits(2).out, "");
}

/// Every outcome is one JSON document, with a code of its own and the exit code that is documented.
#[test]
fn every_outcome_is_one_json_document() {
    let fresh = TestWorkspace::new;
    let json = |workspace: &TestWorkspace, arguments: &[&str], exit: i32| {
        workspace.consolidate(["--json"]).args(arguments).run().exits(exit)
    };

    let workspace = fresh();
    let nothing = json(&workspace, &["run", "--", "true"], 0).json();
    assert_eq!(nothing["outcome"], "nothing_to_do");
    assert_eq!(json(&workspace, &["unlock"], 0).json()["removed"], serde_json::Value::Null);
    assert_eq!(json(&workspace, &["list"], 0).json()["entries"], serde_json::json!([]));
    assert_eq!(json(&workspace, &["status"], 0).json()["entries"], 0);

    let staged = workspace.consolidate(["--json", "stage"]).input(payload(1)).run().exits(0).json();
    assert_eq!(staged["staged"][0], workspace.ids()[0]);
    let bad = workspace.consolidate(["--json", "stage"]).input("{\"sour").run().exits(65);
    assert_eq!(bad.json_error()["code"], "invalid_input");
    assert_eq!(bad.json_error()["line"], 1);
    let missing = json(&workspace, &["stage", "missing.jsonl"], 74);
    assert_eq!(missing.json_error()["code"], "not_found");
    assert_eq!(missing.json_error()["path"], "missing.jsonl");

    let failed = json(&workspace, &["run", "--", "false"], 70);
    assert_eq!(failed.json_error()["code"], "consolidator_failed");
    assert_eq!(failed.json_error()["run"]["entries"], 1);

    // The process id of this test is a live one.
    workspace.put(".consolidation.lock", original_record(std::process::id(), "pod-b", &[]));
    let held = json(&workspace, &["run", "--", "true"], 75).json_error();
    assert_eq!(held["code"], "in_use");
    assert_eq!(held["owner"]["pid"], std::process::id());
    assert_eq!(held["owner"]["pod_name"], "pod-b");
    assert_eq!(json(&workspace, &["unlock"], 75).json_error()["code"], "in_use");
    assert_eq!(json(&workspace, &["status"], 0).json()["lock"]["state"], "held");

    workspace.put(".consolidation.lock", "no record");
    assert_eq!(json(&workspace, &["run", "--", "true"], 75).json_error()["code"], "in_use");
    assert_eq!(json(&workspace, &["status"], 0).json()["lock"]["state"], "unreadable");
    let removed = json(&workspace, &["unlock", "--force"], 0).json();
    assert_eq!(removed["removed"]["kind"], "unreadable");

    let lost = json(&workspace, &["run", "--", "sh", "-c", "\"$CONSOLIDATE\" --root . unlock --force"], 75);
    assert_eq!(lost.json_error()["code"], "lock_lost");

    let ran = json(&workspace, &["run", "--", "true"], 0).json();
    assert_eq!(ran["outcome"], "consolidated");
    assert_eq!(ran["removed"], 1);

    let file = workspace.root().join("file");
    fs::write(&file, "").expect("a file");
    let no_directory =
        Program::consolidate(["--json", "--root"]).args([&file]).args(["list"]).run().exits(74);
    assert_eq!(no_directory.json_error()["code"], "wrong_file_type");
    let no_root = Program::consolidate(["--json", "--root", "missing", "list"])
        .current_dir(workspace.root())
        .run()
        .exits(74);
    assert_eq!(no_root.json_error()["code"], "not_found");
    assert_eq!(no_root.json_error()["path"], "missing");
}

#[test]
fn logs_and_colours_stay_out_of_the_document() {
    let workspace = TestWorkspace::new();
    workspace.stage(3);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
    let ran = workspace
        .consolidate(["--json", "run", "--", "echo", "hello"])
        .env("CONSOLIDATION_LOG", "trace")
        .env("CLICOLOR_FORCE", "1")
        .env("FORCE_COLOR", "1")
        .env("TERM", "xterm-256color")
        .run()
        .exits(0);
    assert_eq!(ran.json()["removed"], 3);
    assert!(ran.err.contains("hello") && ran.err.contains("pod-b"), "{}", ran.err);
    let usage = Program::consolidate(["bogus"]).env("CLICOLOR_FORCE", "1").env("TERM", "xterm").run();
    usage.exits(2);
}

#[test]
fn white_space_in_the_log_filter_hides_no_warning() {
    for filter in ["", "warn", "warn ", " warn\n", "plugin=info, warn", "Warn , plugin=trace"] {
        let workspace = TestWorkspace::new();
        workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
        let ran =
            workspace.consolidate(["run", "--", "true"]).env("CONSOLIDATION_LOG", filter).run().exits(0);
        assert!(ran.err.contains("pod-b"), "{filter:?}: {}", ran.err);
    }
}

#[test]
fn log_filter_that_makes_no_sense_is_no_failure() {
    let workspace = TestWorkspace::new();
    workspace.consolidate(["--json", "list"]).env("CONSOLIDATION_LOG", "=,=!").run().exits(0).json();
}

#[test]
fn root_comes_from_the_environment_and_the_option_wins() {
    let (ours, other) = (TestWorkspace::new(), TestWorkspace::new());
    let id = ours.stage(1).remove(0);
    let listed = Program::consolidate(["list"]).env("CONSOLIDATION_ROOT", ours.root()).run().exits(0);
    assert!(listed.out.starts_with(&id), "{}", listed.out);
    let listed = ours.consolidate(["list"]).env("CONSOLIDATION_ROOT", other.root()).run().exits(0);
    assert!(listed.out.starts_with(&id), "{}", listed.out);
    let listed = Program::consolidate(["list"]).current_dir(ours.root()).run().exits(0);
    assert!(listed.out.starts_with(&id), "{}", listed.out);
}

#[test]
fn root_is_given_in_many_ways() {
    let workspace = TestWorkspace::new();
    let above = workspace.root();
    let names: [&[u8]; 5] =
        [b"plain", b"with space", "Gr\u{fc}\u{df}e \u{2603}".as_bytes(), b"quo\"te's", b"\xff\xfe"];
    for name in names {
        let name = OsStr::from_bytes(name);
        let root = above.join(name);
        fs::create_dir(&root).expect("a directory");
        let mut slash = root.clone().into_os_string();
        slash.push("/");
        let around = above.join("plain/..").join(name);
        let relative = OsStr::new(".").to_owned();
        let link = above.join("link");
        symlink(&root, &link).expect("a link");
        for (count, given) in
            [root.clone().into_os_string(), slash, around.into(), relative, link.clone().into()]
                .iter()
                .enumerate()
        {
            let program = Program::consolidate(["--json", "--root"]).args([given]).current_dir(&root);
            program.args(["stage"]).input(payload(count)).run().exits(0).json();
            let program = Program::consolidate(["--json", "--root"]).args([given]).current_dir(&root);
            let listed = program.args(["list"]).run().exits(0).json();
            assert_eq!(listed["entries"].as_array().map(Vec::len), Some(count + 1), "{given:?}");
        }
        let ran = Program::consolidate(["--root"]).args([&root]).args(["run", "--", "true"]).run().exits(0);
        assert_eq!(ran.out, "consolidated 5 entries\n");
        fs::remove_file(link).expect("the link is removed");
    }
}

#[test]
fn empty_root_is_refused_with_words() {
    let ran = Program::consolidate(["--root", "", "list"]).run();
    assert!(matches!(ran.status.code(), Some(2 | 74)), "{ran:?}");
    assert!(!ran.err.is_empty());
}

#[test]
fn message_names_the_root_as_the_host_sees_it() {
    let workspace = TestWorkspace::new();
    fs::write(workspace.staging(), "a file").expect("a file");
    let ran = workspace.consolidate(["list"]).run().exits(74);
    assert_snapshot!(tidy(&ran.err, &workspace), @"consolidate: cannot take a snapshot in <root>: cannot open the directory _staging: another kind of file stands there; it was not followed and not touched: move it away");
}

#[test]
fn missing_root_is_named() {
    let ran = Program::consolidate(["--root", "missing/root", "status"]).run().exits(74);
    assert_eq!(ran.out, "");
    assert_snapshot!(ran.err, @"consolidate: cannot open the workspace missing/root: No such file or directory (os error 2); it must be an existing directory that this user can search and read");
}

#[test]
fn reader_that_has_seen_enough_is_no_failure() {
    let workspace = TestWorkspace::new();
    workspace.stage(2_000);
    for arguments in [&["list"][..], &["list", "--json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ran = workspace.consolidate(arguments).stdout(writer).run().exits(0);
        assert_eq!(ran.err, "");
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    workspace.consolidate(["stage"]).input(payloads(0..5)).stdout(writer).run().exits(0);
    assert_eq!(workspace.ids().len(), 2_005);
}

#[test]
fn closed_standard_streams_are_no_failure() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for redirection in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        for arguments in ["list", "status --json", "unlock", "run --json -- false", "run -- nonsense"] {
            let ran = Program::shell(&format!("\"$CONSOLIDATE\" {arguments} {redirection}"))
                .current_dir(workspace.root())
                .run();
            let expected = if arguments.starts_with("run") { 70 } else { 0 };
            ran.exits(expected);
        }
    }
    Program::shell("\"$CONSOLIDATE\" run -- cat <&- >&- 2>&-").current_dir(workspace.root()).run().exits(0);
    assert_eq!(workspace.ids(), [] as [String; 0]);
    workspace.assert_nothing_left();
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_can_not_be_written_exits_74() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for arguments in [&["list"][..], &["status"], &["list", "--json"], &["--help"], &["--version"]] {
        let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let ran = workspace.consolidate(arguments).stdout(full).run().exits(74);
        assert!(ran.err.contains("standard output") || arguments.contains(&"--json"), "{}", ran.err);
    }
    assert_eq!(workspace.ids().len(), 1);
}

/// Nobody should do it once more because nobody told that it is done.
#[cfg(target_os = "linux")]
#[test]
fn what_was_done_is_told_on_standard_error_if_the_document_can_not_be_written() {
    let workspace = TestWorkspace::new();
    for json in [&[][..], &["--json"]] {
        let full = || fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let stage = workspace.consolidate(["stage"]).args(json).input(payload(1));
        let ran = stage.stdout(full()).run().exits(74);
        let [id] = &workspace.ids()[..] else { panic!("one entry") };
        assert!(ran.err.contains("cannot write to standard output"), "{}", ran.err);
        assert!(ran.err.ends_with(&format!("staged all the same: {id}\n")), "{}", ran.err);
        let ran = workspace.run_shell(json, "cat > lines").stdout(full()).run().exits(74);
        assert!(ran.err.contains("the run is done and its entries are deleted"), "{}", ran.err);
        assert!(ran.err.lines().count() == 1, "it is said once: {}", ran.err);
        assert_eq!(workspace.ids(), [] as [String; 0]);
        let told = |arguments: &[&str], done: &str| {
            let ran = workspace.consolidate(arguments).args(json).stdout(full()).run().exits(74);
            assert!(
                ran.err.contains(done) && ran.err.contains("standard output"),
                "{arguments:?}: {}",
                ran.err
            );
        };
        workspace.stage(1);
        let fail = ["run", "--max-attempts", "1", "--updates", "--", "false"];
        workspace.consolidate(fail).run().exits(70);
        told(&["quarantine", "retry", "--all"], "staged 1 entry again");
        workspace.consolidate(fail).run().exits(70);
        told(&["quarantine", "drop", "--all"], "deleted 1 entry");
        workspace.stage(1);
        let update = r#"printf '{"kind":"a","slug":"b","title":"t","body":"x"}\n'"#;
        let ran =
            workspace.consolidate(["run", "--json", "--updates", "--", "sh", "-c", update]).run().exits(0);
        told(&["undo", ran.json()["runs"][0].as_str().expect("a run")], "the run is undone by ");
        workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
        told(&["doctor", "--fix"], "removed _staging/.consolidation.lock");
        workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
        told(&["unlock"], "the lock is removed");
        let ran = workspace.consolidate(["run"]).args(json).stdout(full()).run().exits(2);
        assert_eq!(ran.err.matches("nothing was given that consolidates").count(), 1, "{}", ran.err);
    }
}

#[test]
fn no_terminal_is_needed() {
    let workspace = TestWorkspace::new();
    let script = format!("setsid '{CONSOLIDATE}' --root . status < /dev/null");
    let ran = Program::shell(&script).env("TERM", "dumb").current_dir(workspace.root()).run().exits(0);
    assert_eq!(ran.out, "entries   0\nunusable  0\nlock      free\n");
}
