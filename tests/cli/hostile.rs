//! Workspaces that somebody tampered with, or that other programs left things in.

use super::process::{Program, Ran, ids_in, wait_until};
use crate::support::{MINIMAL, OriginalRecord, TestWorkspace, entry_id, make_fifo, new_entry_id};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A file outside of the staging directory that must stay as it is.
fn put_victim(workspace: &TestWorkspace) -> PathBuf {
    let victim = workspace.root().join("victim.json");
    fs::write(&victim, MINIMAL).expect("a file");
    victim
}

#[track_caller]
fn assert_untouched(victim: &PathBuf) {
    assert_eq!(fs::read_to_string(victim).expect("it is there"), MINIMAL);
}

fn run(workspace: &TestWorkspace) -> Ran {
    workspace.run_shell(&[], "cat > lines").run()
}

#[test]
fn links_directories_and_pipes_named_like_entries_are_left_alone() {
    let workspace = TestWorkspace::new();
    let victim = put_victim(&workspace);
    let ids = workspace.stage(2);
    let names: Vec<String> = (0..6).map(|_| new_entry_id().file_name()).collect();
    symlink(&victim, workspace.staged(&names[0])).expect("a link");
    symlink("../victim.json", workspace.staged(&names[1])).expect("a link");
    symlink("../missing.json", workspace.staged(&names[2])).expect("a link");
    fs::create_dir(workspace.staged(&names[3])).expect("a directory");
    make_fifo(&workspace.staged(&names[4]));
    symlink(format!("{}.json", ids[0]), workspace.staged(&names[5])).expect("a link");
    let document = workspace.consolidate(["status", "--json"]).run().exits(0).json();
    assert_eq!((&document["entries"], &document["unusable_count"]), (&2.into(), &6.into()), "{document}");
    let ran = run(&workspace).exits(0);
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    for name in &names {
        assert!(workspace.staged(name).symlink_metadata().is_ok(), "{name} is left");
        assert!(ran.err.contains(name), "{name} is named: {}", ran.err);
    }
    assert_untouched(&victim);
}

#[test]
fn link_directory_or_pipe_in_place_of_the_lock_is_refused_and_not_touched() {
    type Plant = fn(&TestWorkspace);
    let plants: [(&str, Plant); 6] = [
        ("link to a file", |workspace| symlink("../victim.json", workspace.lock()).expect("a link")),
        ("dangling link", |workspace| symlink("../new", workspace.lock()).expect("a link")),
        ("link out of the workspace", |workspace| {
            symlink("/etc/hostname", workspace.lock()).expect("a link")
        }),
        ("link to a directory", |workspace| symlink("..", workspace.lock()).expect("a link")),
        ("directory", |workspace| fs::create_dir(workspace.lock()).expect("a directory")),
        ("pipe", |workspace| make_fifo(&workspace.lock())),
    ];
    for (what, plant) in plants {
        let workspace = TestWorkspace::new();
        let victim = put_victim(&workspace);
        let ids = workspace.stage(1);
        plant(&workspace);
        let kind = workspace.lock().symlink_metadata().expect("it is there").file_type();
        for arguments in [
            &["run", "--", "touch", "started"][..],
            &["run", "--wait", "60", "--", "true"],
            &["unlock"],
            &["unlock", "--force"],
        ] {
            let error = workspace.consolidate(["--json"]).args(arguments).run().exits(74).json_error();
            assert_eq!(error["code"], "wrong_file_type", "{what}: {error}");
            assert!(
                error["path"].as_str().is_some_and(|path| path.ends_with(".consolidation.lock")),
                "{error}"
            );
        }
        let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
        assert_eq!(status["lock"]["state"], "blocked", "{what}");
        assert_eq!(workspace.lock().symlink_metadata().expect("it is there").file_type(), kind, "{what}");
        assert_untouched(&victim);
        assert!(!workspace.has("new") && !workspace.has("started"), "{what}");
        assert_eq!(workspace.ids(), ids);
        assert_eq!(workspace.owners(), [] as [String; 0], "{what}");
        workspace.stage(1);
    }
}

#[test]
fn odd_things_in_place_of_the_owner_flags_are_refused() {
    type Plant = fn(&TestWorkspace);
    let plants: [(&str, Plant); 4] = [
        ("file", |workspace| workspace.put(".owners", "x")),
        ("link out of the staging directory", |workspace| {
            fs::create_dir(workspace.root().join("elsewhere")).expect("a directory");
            symlink("../elsewhere", workspace.staged(".owners")).expect("a link");
        }),
        ("dangling link", |workspace| symlink("../new", workspace.staged(".owners")).expect("a link")),
        ("pipe", |workspace| make_fifo(&workspace.staged(".owners"))),
    ];
    for (what, plant) in plants {
        let workspace = TestWorkspace::new();
        let ids = workspace.stage(1);
        plant(&workspace);
        let error = workspace.run_shell(&["--json"], "touch started").run().exits(74).json_error();
        assert!(error["path"].as_str().is_some_and(|path| path.ends_with(".owners")), "{what}: {error}");
        assert_eq!(crate::support::names(&workspace.root().join("elsewhere")), [] as [String; 0]);
        assert!(!workspace.has("new") && !workspace.has("started"), "{what}");
        assert_eq!(workspace.ids(), ids);
        workspace.consolidate(["status"]).run().exits(0);
        workspace.consolidate(["list"]).run().exits(0);
        workspace.stage(1);
    }
}

#[test]
fn odd_things_among_the_owner_flags_do_no_harm() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for name in
        ["README", ".nfs0000000000000001", "a.b.c.1.2.xyz", "-.-.-.007.-.00112233445566778899aabbccddeeff"]
    {
        workspace.put_owner(name, "x");
    }
    fs::create_dir(workspace.owner("directory")).expect("a directory");
    fs::write(workspace.staged(".owners").join(OsStr::from_bytes(b"\xff")), "x").expect("a file");
    run(&workspace).exits(0);
    assert_eq!(workspace.owners().len(), 6, "what is not ours stays");
}

#[test]
fn staging_directory_that_is_none_is_refused_by_every_subcommand() {
    type Plant = fn(&TestWorkspace);
    let plants: [(&str, Plant); 4] = [
        ("file", |workspace| fs::write(workspace.staging(), "x").expect("a file")),
        ("dangling link", |workspace| symlink("new", workspace.staging()).expect("a link")),
        ("link", |workspace| {
            fs::create_dir(workspace.root().join("elsewhere")).expect("a directory");
            symlink("elsewhere", workspace.staging()).expect("a link");
        }),
        ("pipe", |workspace| make_fifo(&workspace.staging())),
    ];
    for (what, plant) in plants {
        let workspace = TestWorkspace::new();
        plant(&workspace);
        for arguments in [
            &["stage"][..],
            &["list"],
            &["status"],
            &["run", "--", "touch", "started"],
            &["unlock"],
            &["unlock", "--force"],
        ] {
            let error =
                workspace.consolidate(["--json"]).args(arguments).input(MINIMAL).run().exits(74).json_error();
            assert!(
                error["path"].as_str().is_some_and(|path| path.ends_with("_staging")),
                "{what}, {arguments:?}: {error}"
            );
            assert!(!error["message"].as_str().unwrap_or_default().contains("os error"), "{error}");
        }
        assert_eq!(crate::support::names(&workspace.root().join("elsewhere")), [] as [String; 0], "{what}");
        assert!(!workspace.has("new") && !workspace.has("started"), "{what}");
    }
}

#[test]
fn staging_directory_out_of_the_workspace_is_refused() {
    let (workspace, other) = (TestWorkspace::new(), TestWorkspace::new());
    other.stage(1);
    symlink(other.staging(), workspace.staging()).expect("a link");
    for arguments in [&["stage"][..], &["list"], &["status"], &["run", "--", "touch", "started"], &["unlock"]]
    {
        workspace.consolidate(["--json"]).args(arguments).input(MINIMAL).run().exits(74).json_error();
    }
    assert_eq!(other.ids().len(), 1);
}

#[test]
fn ids_in_a_stale_record_never_become_paths() {
    let workspace = TestWorkspace::new();
    let victim = put_victim(&workspace);
    let kept = workspace.stage(2);
    let ids = [
        "../victim",
        "..%2fvictim",
        "/etc/x",
        "./../victim",
        "x/../../victim",
        "victim\0",
        "",
        ".",
        "..",
        &kept[0],
        &format!("{}/../../victim", kept[0]),
        &kept[1].to_uppercase(),
    ];
    let record = |pid| OriginalRecord {
        pid,
        pod_name: "../victim".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        consumed_ids: ids.iter().map(ToString::to_string).collect(),
    };
    let stale = serde_json::to_string(&record(u32::MAX)).expect("JSON");
    for arguments in [&["run", "--", "false"][..], &["unlock"], &["unlock", "--force"], &["status"]] {
        workspace.put(".consolidation.lock", &stale);
        let ran = workspace.consolidate(arguments).run();
        assert!(matches!(ran.status.code(), Some(0 | 70)), "{ran:?}");
        assert_untouched(&victim);
        assert_eq!(workspace.ids(), kept);
    }
    run(&workspace).exits(0);
    assert_untouched(&victim);
    workspace.assert_nothing_left();
}

#[test]
fn huge_file_is_unusable_and_not_read() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let huge = new_entry_id().file_name();
    workspace.put(&huge, "{");
    let file = fs::File::options().write(true).open(workspace.staged(&huge)).expect("the file opens");
    // Sparse: it takes no space.
    if let Err(error) = file.set_len(1 << 40) {
        eprintln!("smaller than meant: {error}");
        file.set_len(1 << 30).expect("a large file");
    }
    let document = workspace.consolidate(["status", "--check", "--json"]).run().exits(0).json();
    assert_eq!(document["unusable"][0]["name"], huge);
    workspace.consolidate(["list"]).run().exits(0);
    run(&workspace).exits(0);
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    assert!(workspace.staged(&huge).exists());
}

#[test]
fn huge_lock_is_unreadable_and_not_read_to_its_end() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    workspace.put(".consolidation.lock", "{");
    let file = fs::File::options().write(true).open(workspace.lock()).expect("the file opens");
    file.set_len(1 << 33).expect("a large file");
    drop(file);
    let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
    assert_eq!(status["lock"]["state"], "unreadable");
    run(&workspace).exits(75);
    crate::support::set_age(&workspace.lock(), 10);
    run(&workspace).exits(0);
    workspace.assert_nothing_left();
}

/// What editors, desktops and network file systems leave behind, and names that only look like ids.
#[test]
fn files_of_other_programs_are_no_entries_and_stay() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let id = entry_id(1_760_000_000_000, 0xabc);
    let upper = id.to_string().to_uppercase();
    let bare = id.to_string().replace('-', "");
    let names = [
        format!("._{id}.json"),
        ".DS_Store".into(),
        format!(".{id}.json.swp"),
        format!("{id}.json~"),
        format!("{id}.json.tmp"),
        format!("#{id}.json#"),
        ".nfs0000abcd".into(),
        ".fuse_hidden1".into(),
        "Thumbs.db".into(),
        format!("{id} (conflicted copy).json"),
        format!("{upper}.json"),
        format!("{{{id}}}.json"),
        format!("{bare}.json"),
        format!("urn:uuid:{id}.json"),
        format!("{id}.JSON"),
        format!("{id}"),
        format!(" {id}.json"),
        format!("{id}.json "),
        "00000000-0000-0000-0000-000000000000.json".into(),
        "ffffffff-ffff-ffff-ffff-ffffffffffff.json".into(),
        "01968f2e-0000-4000-8000-000000000001.json".into(),
        "01968f2e-0000-7000-0000-000000000001.json".into(),
        ".json".into(),
        "new\nline.json".into(),
    ];
    for name in &names {
        workspace.put(name, MINIMAL);
    }
    fs::create_dir(workspace.staged("quarantine")).expect("a directory");
    let raw: [&[u8]; 3] = [b"\xff\xfe.json", b"\xff", b"caf\xe9.json"];
    for name in raw {
        fs::write(workspace.staging().join(OsStr::from_bytes(name)), MINIMAL).expect("a file");
    }
    let listed = workspace.consolidate(["list"]).run().exits(0);
    assert_eq!(
        listed.lines().iter().filter(|line| !line.starts_with("unusable: ")).count(),
        1,
        "{}",
        listed.out
    );
    workspace.consolidate(["list", "--json"]).run().exits(0).json();
    workspace.consolidate(["status"]).run().exits(0);
    let ran = run(&workspace).exits(0);
    assert_eq!(ran.out, "consolidated 1 entry\n");
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    for name in &names {
        assert_eq!(fs::read_to_string(workspace.staged(name)).ok().as_deref(), Some(MINIMAL), "{name}");
    }
    for name in raw {
        assert!(workspace.staging().join(OsStr::from_bytes(name)).exists());
    }
}

#[test]
fn bad_content_is_named_and_everything_else_is_consumed() {
    let workspace = TestWorkspace::new();
    let with = |rest: &str| format!(r#"{{"source":{{"segment_id":"s","range":[0,1]}},{rest}}}"#).into_bytes();
    let mut bad: Vec<Vec<u8>> =
        ["", "null", "[]", "\"text\"", "nonsense", "{}", "{\"source\":", "{'source':1}"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    bad.extend(
        [r#""t":"\ud800""#, r#""t":"\udc00\ud83d""#, r#""n":NaN"#, r#""n":Infinity"#, "", r#""t":1 // x"#]
            .map(with),
    );
    bad.push(b"{\"source\":{\"segment_id\":\"\xff\",\"range\":[0,1]}}".to_vec());
    bad.push(vec![0; 700]);
    bad.push(format!("{MINIMAL}{MINIMAL}").into_bytes());
    bad.push(format!("\u{feff}{MINIMAL}").encode_utf16().flat_map(u16::to_le_bytes).collect());
    bad.push("[".repeat(200_000).into_bytes());
    let good = [
        format!("\u{feff}{MINIMAL}"),
        MINIMAL.replace(',', ",\r\n") + "\r\n",
        String::from_utf8(with(r#""t":"\u0000""#)).expect("text"),
    ];
    let bad_ids: Vec<String> = bad
        .iter()
        .map(|content| {
            let id = new_entry_id();
            workspace.put(&id.file_name(), content);
            id.to_string()
        })
        .collect();
    let good_ids: Vec<String> = good
        .iter()
        .map(|content| {
            let id = new_entry_id();
            workspace.put(&id.file_name(), content);
            id.to_string()
        })
        .collect();
    let status = workspace.consolidate(["status", "--check", "--json"]).run().exits(0).json();
    assert_eq!(status["unusable_count"], bad.len(), "{status}");
    let ran = run(&workspace).exits(0);
    assert_eq!(ids_in(&workspace.text("lines")), good_ids);
    assert_eq!(workspace.ids(), bad_ids);
    for id in &bad_ids {
        assert!(ran.err.contains(id), "{id} is named");
    }
}

#[test]
fn thousands_of_other_files_do_not_hide_the_entries() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(3);
    for number in 0..5_000 {
        workspace.put(&format!("junk-{number}.txt"), "");
        workspace.put(&format!("junk-{number}.json"), "");
    }
    let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
    assert_eq!((&status["entries"], &status["unusable_count"]), (&3.into(), &5_000.into()));
    run(&workspace).exits(0);
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    assert_eq!(workspace.visible().len(), 10_000);
}

#[test]
fn few_descriptors_are_enough_for_many_entries() {
    let workspace = TestWorkspace::new();
    let ids: Vec<String> = (0..5_000).map(|_| workspace.put_entry().to_string()).collect();
    let script = r#"ulimit -n 64
        "$CONSOLIDATE" list > listed && "$CONSOLIDATE" status > status || exit 1
        "$CONSOLIDATE" stage < more > staged || exit 1
        "$CONSOLIDATE" run -- sh -c 'cat > lines'"#;
    fs::write(workspace.root().join("more"), super::process::payloads(0..1_200)).expect("a file");
    let ran = Program::shell(script).current_dir(workspace.root()).run().exits(0);
    assert_eq!(ran.out, "consolidated 6200 entries\n");
    assert_eq!(workspace.text("listed").lines().count(), 5_000);
    let consumed = ids_in(&workspace.text("lines"));
    assert_eq!(consumed[..5_000], ids);
    assert_eq!(consumed.len(), 6_200);
}

/// A writer that never comes: whoever opened the pipe to read would wait for ever.
#[test]
fn pipe_with_a_writer_waiting_is_not_opened() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let pipe = workspace.staged(&new_entry_id().file_name());
    make_fifo(&pipe);
    let mut writer = Program::shell("echo secret > \"$PIPE\"").env("PIPE", &pipe).start();
    workspace.consolidate(["list"]).run().exits(0);
    run(&workspace).exits(0);
    assert!(!writer.has_ended(), "somebody opened the pipe");
    fs::read(&pipe).expect("the pipe is read");
    wait_until("the writer has ended", || writer.has_ended());
    writer.finish().exits(0);
}
