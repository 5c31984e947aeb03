//! The versions of the plugin world that this host runs. Invariant: nothing outside of a version's own
//! module knows its types; another version is one more module, and one more arm in each `match` here.

use super::sandbox::State;
use super::v0_1;
use crate::types::{Entry, Update};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

/// The versions, for messages. A higher patch version runs too.
pub(super) const RUNS: &str = "0.1";

/// What a plugin exports, without its version.
const EXPORT: &str = "insomnia:plugin/consolidator";

/// Which world a plugin was built for.
pub(super) enum Built {
    V0_1,
    /// One that this host does not run.
    For(String),
    /// None.
    No,
}

impl Built {
    /// By the names of the exports.
    pub(super) fn of<'a>(exports: impl Iterator<Item = &'a str>) -> Built {
        let mut built = Built::No;
        for export in exports {
            let (name, version) = export.split_once('@').unwrap_or((export, ""));
            if name != EXPORT {
                continue;
            }
            match version.split('.').collect::<Vec<_>>()[..] {
                ["0", "1", patch] if is_number(patch) => return Built::V0_1,
                [""] => built = Built::For("insomnia:plugin without a version".into()),
                _ => built = Built::For(format!("insomnia:plugin {version}")),
            }
        }
        built
    }
}

/// Is the import one of the interfaces that this host provides to plugins?
pub(super) fn is_provided(name: &str, version: &str) -> bool {
    matches!(name, "insomnia:plugin/types" | "insomnia:plugin/memory" | "insomnia:plugin/log")
        && matches!(version.split('.').collect::<Vec<_>>()[..], ["0", "1", patch] if is_number(patch))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Who a plugin is.
pub(super) struct Info {
    pub(super) name: String,
    pub(super) version: String,
}

/// Why a plugin could not do a batch, in its own words.
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) entries: Vec<String>,
    pub(super) temporary: bool,
}

/// A plugin, compiled and linked.
pub(super) enum World {
    V0_1(v0_1::Linked),
}

impl World {
    /// Adds what the world imports to a linker that has WASI, and links. `built` is a version that runs.
    pub(super) fn link(mut linker: Linker<State>, component: &Component) -> wasmtime::Result<World> {
        Ok(World::V0_1(v0_1::Linked::new(&mut linker, component)?))
    }

    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Exports> {
        match self {
            World::V0_1(linked) => Ok(Exports::V0_1(linked.instantiate(store).await?)),
        }
    }
}

/// What an instance exports.
pub(super) enum Exports {
    V0_1(v0_1::Exports),
}

impl Exports {
    pub(super) async fn info(&self, store: &mut Store<State>) -> wasmtime::Result<Info> {
        match self {
            Exports::V0_1(exports) => exports.info(store).await,
        }
    }

    pub(super) async fn consolidate(
        &self,
        store: &mut Store<State>,
        batch: &[Entry],
        now_ms: u64,
    ) -> wasmtime::Result<Result<Vec<Update>, Failure>> {
        match self {
            Exports::V0_1(exports) => exports.consolidate(store, batch, now_ms).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn world_is_told_by_the_version_of_the_export() {
        let built = |exports: &[&str]| match Built::of(exports.iter().copied()) {
            Built::V0_1 => "0.1".to_owned(),
            Built::For(version) => version,
            Built::No => String::new(),
        };
        assert_eq!(built(&["insomnia:plugin/consolidator@0.1.0"]), "0.1");
        assert_eq!(built(&["other:a/b@1.0.0", "insomnia:plugin/consolidator@0.1.27"]), "0.1");
        for version in ["0.9.0", "1.0.0", "0.10.0", "0.1.0-rc.1", "0.1", "0.1.", "0.1.0.0"] {
            let export = format!("insomnia:plugin/consolidator@{version}");
            assert_eq!(built(&[&export]), format!("insomnia:plugin {version}"));
        }
        assert_eq!(built(&["insomnia:plugin/consolidator"]), "insomnia:plugin without a version");
        assert_eq!(built(&["insomnia:plugin/consolidators@0.1.0", "run"]), "");
        // A plugin may serve hosts of two times.
        assert_eq!(
            built(&["insomnia:plugin/consolidator@0.2.0", "insomnia:plugin/consolidator@0.1.3"]),
            "0.1"
        );
    }
}
