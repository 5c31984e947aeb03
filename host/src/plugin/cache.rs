//! Compiled plugins on disk. Invariant: machine code is loaded only from a file that nobody but this user
//! can have written, and whose digest is that of its content; anything else is compiled anew and never an
//! error.
//!
//! A file's name is the digest of the component and that of the engine's version and settings, so a
//! changed plugin and another build of the host have files of their own. Its content is [`HEADER`], the
//! SHA-256 of the image, and the image.

use crate::sys::{self, own};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use wasmtime::Engine;
use wasmtime::component::Component;

const HEADER: &[u8; 16] = b"insomnia-image-1";
const DIGEST: usize = 32;
const SUFFIX: &str = ".cwasm";
/// How a file begins that is being written.
const TEMPORARY: &str = ".plugin-";
/// A file that was not used for so long is removed.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A use is noted, in the file's time of change, at most so often.
const NOTE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory of compiled plugins.
pub(super) struct Cache<'a> {
    directory: &'a Path,
}

impl<'a> Cache<'a> {
    pub(super) fn new(directory: &'a Path) -> Cache<'a> {
        Cache { directory }
    }

    /// The component, from the cache if it is there. Errors are those of compiling.
    pub(super) fn component(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let path = self.directory.join(file_name(engine, bytes));
        match self.load(engine, &path) {
            Ok(component) => {
                tracing::debug!(path = %path.display(), "took the compiled plugin from the cache");
                return Ok(component);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "passed over a compiled plugin in the cache");
            }
        }
        let component = Component::from_binary(engine, bytes)?;
        match self.keep(&component, &path) {
            Ok(()) => tracing::debug!(path = %path.display(), "compiled the plugin and kept it in the cache"),
            Err(error) => tracing::debug!(
                path = %path.display(),
                %error,
                "compiled the plugin and could not keep it in the cache"
            ),
        }
        Ok(component)
    }

    fn load(&self, engine: &Engine, path: &Path) -> io::Result<Component> {
        self.check_directory()?;
        let mut file = own::open_no_follow(path)?;
        let about = file.metadata()?;
        if !about.is_file() || !own::is_ours_alone(&about) {
            return Err(io::Error::other("it does not belong to this user alone"));
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let image = content
            .strip_prefix(HEADER)
            .and_then(|rest| rest.split_at_checked(DIGEST))
            .filter(|(digest, image)| Sha256::digest(image)[..] == **digest)
            .map(|(_, image)| image)
            .ok_or_else(|| io::Error::other("it is damaged"))?;
        let component = sys::image::load_kept(engine, image).map_err(io::Error::other)?;
        note_use(&file, &about);
        Ok(component)
    }

    fn keep(&self, component: &Component, path: &Path) -> io::Result<()> {
        own::create_own_directory(self.directory)?;
        self.check_directory()?;
        let image = component.serialize().map_err(io::Error::other)?;
        let mut file =
            tempfile::Builder::new().prefix(TEMPORARY).suffix(SUFFIX).tempfile_in(self.directory)?;
        file.write_all(HEADER)?;
        file.write_all(&Sha256::digest(&image))?;
        file.write_all(&image)?;
        // Not synchronised: what a crash of the machine leaves of it has another digest.
        file.persist(path).map_err(|error| error.error)?;
        self.remove_old();
        Ok(())
    }

    fn check_directory(&self) -> io::Result<()> {
        let about = fs::metadata(self.directory)?;
        if !about.is_dir() || !own::is_ours_alone(&about) {
            return Err(io::Error::other("the directory does not belong to this user alone"));
        }
        Ok(())
    }

    /// Removes what was not used for long, as far as that goes.
    fn remove_old(&self) {
        let Some(limit) = SystemTime::now().checked_sub(MAX_AGE) else { return };
        for entry in fs::read_dir(self.directory).into_iter().flatten().flatten() {
            let is_old = || entry.metadata().is_ok_and(|about| about.is_file() && is_before(&about, limit));
            if entry.file_name().to_str().is_some_and(is_own_name) && is_old() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The name that a plugin's image has for an engine.
fn file_name(engine: &Engine, bytes: &[u8]) -> PathBuf {
    let mut settings = Settings(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    let engine = settings.finish();
    format!("{:x}-{engine:016x}{SUFFIX}", Sha256::digest(bytes)).into()
}

/// Is it the name of an image or of one that was being written? Nothing else is ever removed.
fn is_own_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(SUFFIX) else { return false };
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match stem.split_once('-') {
        Some((component, engine)) => {
            (is_hex(component, 64) && is_hex(engine, 16)) || name.starts_with(TEMPORARY)
        }
        None => false,
    }
}

fn is_before(about: &fs::Metadata, time: SystemTime) -> bool {
    about.modified().is_ok_and(|modified| modified < time)
}

fn note_use(file: &File, about: &fs::Metadata) {
    let now = SystemTime::now();
    if now.checked_sub(NOTE_EVERY).is_some_and(|limit| is_before(about, limit)) {
        // The file is open for reading only; that its owner asks is enough.
        let _ = file.set_modified(now);
    }
}

/// Makes a digest of what is hashed: the standard library's hash may differ between its versions.
struct Settings(Sha256);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_its_own_are_removed() {
        let hex = "0123456789abcdef";
        assert!(is_own_name(&format!("{}-{hex}.cwasm", hex.repeat(4))));
        assert!(is_own_name(".plugin-Xy12.cwasm"));
        for name in ["consolidation.cwasm", "a-b.cwasm", ".plugin-Xy12", "notes.txt", ".cwasm", ""] {
            assert!(!is_own_name(name), "{name}");
        }
    }

    #[test]
    fn name_tells_component_and_engine_apart() {
        let engine = Engine::default();
        let other = Engine::new(wasmtime::Config::new().epoch_interruption(true)).expect("an engine");
        let name = file_name(&engine, b"one");
        assert!(is_own_name(name.to_str().expect("it is text")));
        assert_eq!(name, file_name(&Engine::default(), b"one"));
        assert_ne!(name, file_name(&engine, b"two"));
        assert_ne!(name, file_name(&other, b"one"));
    }
}
