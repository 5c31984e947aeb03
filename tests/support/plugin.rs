//! Plugins made of WebAssembly text: components that do what a test needs them to do, and nothing that a
//! compiler would add. Invariant: a plugin imports exactly what its test names.

use std::fs;
use std::path::Path;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The plugin package, as it is shipped.
const WIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/plugin");

/// The parts of other packages that tests import.
const OTHERS: [&str; 7] = [
    "package wasi:io@0.2.0;
    interface error { resource error; }
    interface poll { resource pollable { block: func(); } }
    interface streams {
        use error.{error};
        use poll.{pollable};
        variant stream-error { last-operation-failed(error), closed }
        resource input-stream {
            blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
        }
        resource output-stream {
            blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
        }
    }",
    "package wasi:cli@0.2.0;
    interface environment { get-environment: func() -> list<tuple<string, string>>; }
    interface exit { exit: func(status: result); }
    interface stdin { use wasi:io/streams@0.2.0.{input-stream}; get-stdin: func() -> input-stream; }
    interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; }
    interface stderr { use wasi:io/streams@0.2.0.{output-stream}; get-stderr: func() -> output-stream; }",
    "package wasi:clocks@0.2.0;
    interface wall-clock {
        record datetime { seconds: u64, nanoseconds: u32 }
        now: func() -> datetime;
    }
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
    }",
    "package wasi:random@0.2.0;
    interface random { get-random-u64: func() -> u64; }
    interface insecure { get-insecure-random-u64: func() -> u64; }
    interface insecure-seed { insecure-seed: func() -> tuple<u64, u64>; }",
    "package wasi:filesystem@0.2.0;
    interface types { resource descriptor; }
    interface preopens {
        use types.{descriptor};
        get-directories: func() -> list<tuple<descriptor, string>>;
    }",
    "package wasi:sockets@0.2.0;
    interface network { resource network; }
    interface instance-network { use network.{network}; instance-network: func() -> network; }
    interface tcp {
        use wasi:io/poll@0.2.0.{pollable};
        use wasi:io/streams@0.2.0.{input-stream};
        resource tcp-socket {
            subscribe: func() -> pollable;
            read: func() -> input-stream;
        }
    }
    interface tcp-create-socket {
        use tcp.{tcp-socket};
        create-tcp-socket: func(family: u8) -> tcp-socket;
    }",
    "package acme:secrets@1.0.0;
    interface vault { read: func() -> u64; }",
];

/// A plugin, as its parts.
///
/// In the text there are `$answer`, which makes an answer of so many empty updates, and the results at
/// 1024 and scratch space from 2048 to 4096; data of the test's own goes to 4096, and from 8192 on there
/// are zeros.
#[derive(Clone)]
pub(crate) struct PluginText {
    version: String,
    imports: Vec<String>,
    import_text: String,
    pages: u32,
    info: String,
    body: String,
    items: String,
}

impl PluginText {
    /// One that does this with a batch: it has `$entries`, `$count` and `$now`, and locals `$i`, `$j`
    /// and `$n`, and ends with the address of its answer.
    pub(crate) fn new(body: &str) -> Self {
        PluginText {
            version: "0.1.0".into(),
            imports: Vec::new(),
            import_text: String::new(),
            pages: 2,
            info: "(i32.const 16)".into(),
            body: body.into(),
            items: String::new(),
        }
    }

    /// For another version of the plugin world.
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// With a function of an interface, called `$function`; its core type is the test's to know.
    pub(crate) fn import(mut self, interface: &str, function: &str, ty: &str) -> Self {
        let name = function.rsplit(['.', ']']).next().unwrap_or(function);
        self.import_text += &format!("(import \"{interface}\" \"{function}\" (func ${name} {ty}))\n");
        if !interface.starts_with("insomnia:plugin/") && !self.imports.iter().any(|known| known == interface)
        {
            self.imports.push(interface.into());
        }
        self
    }

    /// With so many pages of memory at the beginning.
    pub(crate) fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// With another body of `info`.
    pub(crate) fn info(mut self, body: &str) -> Self {
        self.info = body.into();
        self
    }

    /// With further fields of the module.
    pub(crate) fn items(mut self, items: &str) -> Self {
        self.items += items;
        self
    }

    /// The core module.
    fn module(&self) -> String {
        let PluginText { version, import_text, pages, info, body, items, .. } = self;
        // What the host passes goes behind everything else.
        let free = (pages - 1) * 65536;
        format!(
            r#"(module
  {import_text}
  (memory (export "memory") {pages})
  (data (i32.const 16) "\20\00\00\00\06\00\00\00\28\00\00\00\05\00\00\00digest\00\001.2.3")
  (global $free (mut i32) (i32.const {free}))
  (func $answer (param $updates i32) (result i32)
    (i32.store (i32.const 1028) (i32.const 8192))
    (i32.store (i32.const 1032) (local.get $updates))
    (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
        (i32.sub (i32.shr_u (global.get $free) (i32.const 16)) (memory.size))))))
      (unreachable))
    (local.get $at))
  (func (export "insomnia:plugin/consolidator@{version}#info") (result i32) {info})
  (func (export "insomnia:plugin/consolidator@{version}#consolidate")
    (param $entries i32) (param $count i32) (param $now i64) (result i32)
    (local $i i32) (local $j i32) (local $n i64)
    {body})
  {items}
)"#
        )
    }

    /// The component.
    pub(crate) fn build(&self) -> Vec<u8> {
        let PluginText { version, imports, .. } = self;
        let wit = tempfile::tempdir().expect("a temporary directory");
        for file in fs::read_dir(WIT).expect("the plugin package").flatten() {
            let text = fs::read_to_string(file.path()).expect("it is text");
            let text = text.replace("plugin@0.1.0", &format!("plugin@{version}"));
            // What is said of versions counts for the one that is there.
            let text: String =
                text.lines().filter(|line| !line.contains("@since")).collect::<Vec<_>>().join("\n");
            fs::write(wit.path().join(file.file_name()), text).expect("it is written");
        }
        let mut resolve = Resolve::default();
        resolve.push_dir(wit.path()).expect("the plugin package is sound");
        let imports: String = imports.iter().map(|interface| format!("import {interface};\n")).collect();
        let world = format!(
            "package test:built;\nworld built {{ include insomnia:plugin/plugin@{version};\n{imports} }}"
        );
        encode(&mut resolve, &world, &self.module())
    }

    /// The component in a file.
    pub(crate) fn build_to(&self, path: &Path) {
        fs::write(path, self.build()).expect("the plugin is written");
    }
}

/// A component of a world of its own: WIT of a package with the world `built`, and a core module.
pub(crate) fn component(world: &str, module: &str) -> Vec<u8> {
    encode(&mut Resolve::default(), world, module)
}

fn encode(resolve: &mut Resolve, world: &str, module: &str) -> Vec<u8> {
    for other in OTHERS {
        resolve.push_str("other.wit", other).expect("the package is sound");
    }
    let package = resolve.push_str("built.wit", world).expect("the world is sound");
    let world = resolve.select_world(&[package], Some("built")).expect("the world is there");
    let mut module = wat::parse_str(module).expect("the text is sound");
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).expect("it is embedded");
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .expect("it is a component")
}
