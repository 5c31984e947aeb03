//! The component with the code of some exports replaced, to see what becomes of a guest that traps,
//! loops or is hostile. Invariant: everything else is the shipped code, byte for byte; a body is
//! replaced in place and filled up to its size, so that no other offset changes.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::{env, fs};
use wasm_encoder::{BlockType, Function, MemArg};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

pub(crate) use wasm_encoder::Instruction;

/// The prefixes of the exports of interfaces.
pub(super) const LOCK: &str = "insomnia:consolidation/lock@0.1.0#";
pub(crate) const MEMORY: &str = "insomnia:consolidation/memory@0.1.0#";
pub(super) const STAGING: &str = "insomnia:consolidation/staging@0.1.0#";
/// Before the name of an export: what the host calls once it has the result.
pub(super) const AFTER: &str = "cabi_post_";

/// Where patched code keeps a result: the far end of the stack, which the component never uses.
pub(super) const RESULT: i32 = 64;
/// Where patched code keeps what an import returns.
pub(super) const SCRATCH: i32 = 512;

const NOP: u8 = 0x01;
const END: u8 = 0x0b;

/// A component that can be patched.
#[derive(Clone)]
pub(crate) struct Component {
    bytes: Vec<u8>,
    /// Functions that its main module imports, by interface (without its version) and name.
    imports: HashMap<(String, String), u32>,
    /// Functions that its main module exports.
    exports: HashMap<String, u32>,
    /// Where the bodies of its own functions are.
    bodies: Vec<Range<usize>>,
}

impl Component {
    /// The component that the library has built in.
    pub(crate) fn shipped() -> Self {
        let bytes = shipped();
        let mut component =
            Component { bytes: Vec::new(), imports: HashMap::new(), exports: HashMap::new(), bodies: vec![] };
        component.index(&bytes);
        component.bytes = bytes;
        component
    }

    /// Looks through the first module of the component, the one that rustc made.
    fn index(&mut self, bytes: &[u8]) {
        let (module, range) = Parser::new(0)
            .parse_all(bytes)
            .find_map(|payload| match payload.expect("a component") {
                Payload::ModuleSection { parser, unchecked_range } => Some((parser, unchecked_range)),
                _ => None,
            })
            .expect("the component has a module");
        let mut imported = 0;
        for payload in module.parse_all(&bytes[range]) {
            match payload.expect("a module") {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.expect("an import");
                        if matches!(import.ty, TypeRef::Func(_)) {
                            let interface = import.module.split('@').next().unwrap_or_default();
                            self.imports.insert((interface.to_owned(), import.name.to_owned()), imported);
                            imported += 1;
                        }
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.expect("an export");
                        if export.kind == ExternalKind::Func {
                            self.exports.insert(export.name.to_owned(), export.index - imported);
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => self.bodies.push(body.range()),
                _ => {}
            }
        }
    }

    /// The index of an imported function.
    pub(super) fn import(&self, interface: &str, name: &str) -> Instruction<'static> {
        let key = (interface.to_owned(), name.to_owned());
        let index = self.imports.get(&key).unwrap_or_else(|| panic!("it imports no {interface}#{name}"));
        Instruction::Call(*index)
    }

    /// With other code for an export.
    pub(crate) fn with(mut self, interface: &str, export: &str, code: &[Instruction<'_>]) -> Self {
        let name = format!("{interface}{export}");
        let index = self.exports.get(&name).unwrap_or_else(|| panic!("it exports no {name}"));
        let range = self.bodies[*index as usize].clone();
        let mut function = Function::new([]);
        for instruction in code {
            function.instruction(instruction);
        }
        let mut body = function.into_raw_body();
        assert!(body.len() < range.len(), "the code does not fit into the place of {name}");
        body.resize(range.len() - 1, NOP);
        body.push(END);
        self.bytes[range].copy_from_slice(&body);
        self
    }

    /// With code for what the host calls after an export.
    pub(super) fn with_after(self, interface: &str, export: &str, code: &[Instruction<'_>]) -> Self {
        self.with(&format!("{AFTER}{interface}"), export, code)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The bytes of the component that the library has built in.
pub(super) fn shipped() -> Vec<u8> {
    let path = env::var_os("CONSOLIDATION_COMPONENT").filter(|path| !path.is_empty()).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("component/consolidation.wasm"),
        |path| path.into(),
    );
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Code that traps.
pub(crate) fn trap() -> Vec<Instruction<'static>> {
    vec![Instruction::Unreachable]
}

/// Code that never ends.
pub(super) fn endless_loop() -> Vec<Instruction<'static>> {
    vec![Instruction::Loop(BlockType::Empty), Instruction::Br(0), Instruction::End, Instruction::Unreachable]
}

/// Code that asks for 1 GiB and gives up if it does not get it, as an allocator does.
pub(super) fn greed() -> Vec<Instruction<'static>> {
    vec![
        Instruction::I32Const(1 << 14),
        Instruction::MemoryGrow(0),
        Instruction::Drop,
        Instruction::Unreachable,
    ]
}

/// An aligned 32-bit field.
pub(super) fn word(offset: u64) -> MemArg {
    MemArg { offset, align: 2, memory_index: 0 }
}

/// A byte.
pub(super) fn byte(offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index: 0 }
}
