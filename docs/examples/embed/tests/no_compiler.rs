//! What a program without a compiler does and what it refuses.

use consolidation_host::{Error, ErrorCode, Runtime};
use std::process::Command;
use wasmtime::Engine;

#[test]
fn component_runs_from_its_image() {
    let workspace = tempfile::tempdir().expect("a directory");
    let payload = r#"{"source": {"segment_id": "s", "range": [0, 9]}}"#;
    let ran = Command::new(env!("CARGO_BIN_EXE_embed"))
        .arg(workspace.path())
        .args([payload; 2])
        .output()
        .expect("it runs");
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "2 entries, 2 new records\n");
}

/// There is an image for it, too.
#[cfg(unix)]
#[test]
fn component_runs_where_address_space_is_limited() {
    let workspace = tempfile::tempdir().expect("a directory");
    let ran = Command::new("sh")
        .args(["-c", "ulimit -v 1000000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_embed")])
        .arg(workspace.path())
        .output()
        .expect("it runs");
    assert!(ran.status.success(), "{ran:?}");
}

/// Only one of them runs the image where it is.
#[test]
fn runtime_goes_on_when_another_one_is_dropped() {
    let workspace = tempfile::tempdir().expect("a directory");
    let stays = Runtime::new().expect("a runtime").open(workspace.path()).expect("it opens");
    let goes = Runtime::new().expect("a runtime");
    goes.open(workspace.path()).expect("it opens").summarize().expect("it runs");
    drop(goes);
    stays.summarize().expect("it runs");
}

#[test]
fn engine_with_the_same_settings_runs_the_image() {
    let mut config = Runtime::engine_config();
    config.max_wasm_stack(256 << 10);
    let engine = Engine::new(&config).expect("an engine");
    let runtime = Runtime::builder().engine(engine).build().expect("it fits the image");
    let workspace = tempfile::tempdir().expect("a directory");
    runtime.open(workspace.path()).expect("it opens").summarize().expect("it runs");
}

#[test]
fn engine_with_other_settings_is_refused_with_what_helps() {
    let mut config = Runtime::engine_config();
    config.memory_guard_size(1 << 20);
    let engine = Engine::new(&config).expect("an engine");
    let error = Runtime::builder().engine(engine).build().expect_err("the image is for others");
    assert!(matches!(error, Error::Image { .. }), "{error:?}");
    assert_eq!(error.code(), ErrorCode::Unsupported);
    let message = error.to_string();
    assert!(message.contains("memory guard size"), "{message}");
    assert!(message.contains("Runtime::engine_config") && message.contains("`compile`"), "{message}");
}

#[cfg(feature = "plugins")]
#[test]
fn plugin_is_refused_with_what_helps() {
    use consolidation_host::{Plugin, PluginError, PluginOptions};

    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../plugins/digest.wasm");
    let runtime = Runtime::new().expect("a runtime");
    let error = Plugin::load(&runtime, plugin.as_ref(), &PluginOptions::new()).expect_err("no compiler");
    assert!(matches!(error, PluginError::NoCompiler { .. }), "{error:?}");
    assert!(error.to_string().contains("`compile`"), "{error}");
}
