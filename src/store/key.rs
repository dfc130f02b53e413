//! The name of a compiled kernel: a digest of everything that its machine code depends on.

use crate::Result;
use crate::compile::{Architecture, KernelClass};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The version of the code generators in this build: a digest of their sources.
pub const GENERATOR_VERSION: &str = env!("KASMINA_GENERATOR");

/// Tells the preimages of this layout from any other; raise the number when the fields change.
const LAYOUT: &str = "kasmina kernel 3";

/// What a compiled kernel is found by.
///
/// A key is its *preimage*, the serialised class, architecture and versions, and the BLAKE3 digest of it. The preimage is
/// kept with a stored kernel and compared when it is read, so a kernel can never be taken for another one.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    digest: [u8; 32],
    preimage: Arc<[u8]>,
}

/// What a preimage says.
#[derive(Clone, Debug, PartialEq)]
pub struct Preimage {
    /// The version of the code generators.
    pub generator: String,
    /// The version of the compiler behind them; empty where there is none.
    pub compiler: String,
    /// What the machine code runs on.
    pub architecture: Architecture,
    /// What was compiled; `None` if another generator did, whose classes this library cannot read.
    pub class: Option<KernelClass>,
}

impl Key {
    /// The key of what this generator and this compiler make of a class for an architecture.
    pub fn new(class: &KernelClass, architecture: Architecture, generator: &str, compiler: &str) -> Result<Key> {
        let preimage = postcard::to_allocvec(&(LAYOUT, generator, compiler, architecture, class))
            .map_err(|cause| crate::error!(InvalidArgument, "the kernel class has no key").caused_by(cause))?;
        Ok(Key::of_preimage(&preimage))
    }

    /// The key whose preimage this is.
    pub(super) fn of_preimage(preimage: &[u8]) -> Key {
        Key { digest: *blake3::hash(preimage).as_bytes(), preimage: preimage.into() }
    }

    /// BLAKE3 of the preimage.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Everything the kernel depends on, serialised.
    pub fn preimage(&self) -> &[u8] {
        &self.preimage
    }

    /// Everything the kernel depends on; `None` if a library with another layout made this key.
    pub fn read(&self) -> Option<Preimage> {
        type Versions = (String, String, String, Architecture);
        let (versions, class) = postcard::take_from_bytes::<Versions>(&self.preimage).ok()?;
        let (layout, generator, compiler, architecture) = versions;
        if layout != LAYOUT {
            return None;
        }
        let class = if generator == GENERATOR_VERSION { postcard::from_bytes(class).ok() } else { None };
        Some(Preimage { generator, compiler, architecture, class })
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// The digest in hexadecimal.
impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&blake3::Hash::from_bytes(self.digest).to_hex())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({self})")
    }
}
