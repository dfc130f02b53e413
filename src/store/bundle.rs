//! Many kernels in one file that is written once and then only read: for the machines of a cluster, or a container image.
//!
//! ```text
//! entries, each as in a file of its own
//! index, sorted by digest: digest of the key [32] | offset u64 | length u64
//! magic [8] | version u32 | entries u64 | BLAKE3 of the index [32]
//! ```
//!
//! Machine code is run, so a bundle counts only from somebody who may be trusted with that: root or the user.

use super::publish::publish;
use super::{Key, entry};
use crate::{Error, Result, Status, error, fail};
use log::warn;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"KASBUNDL";
const FOOTER: usize = 8 + 4 + 8 + 32;
const PLACE: usize = 32 + 8 + 8;

/// A file of kernels, open for reading. Safe under threads.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    file: File,
    /// Sorted by digest.
    index: Vec<Place>,
}

/// Where the entry of a key is.
#[derive(Clone, Copy, Debug)]
struct Place {
    digest: [u8; 32],
    offset: u64,
    length: u64,
}

impl Bundle {
    /// Writes a bundle, in place of what has this name. Returns how many kernels are in it.
    pub fn write(path: &Path, kernels: impl IntoIterator<Item = (Key, Vec<u8>)>) -> Result<u64> {
        let mut index = Vec::new();
        let written = publish(path, 0o644, |file| {
            let mut output = BufWriter::new(file);
            let mut offset = 0;
            for (key, machine_code) in kernels {
                let bytes = entry::encode(&key, &machine_code)?;
                output.write_all(&bytes)?;
                index.push(Place { digest: *key.digest(), offset, length: bytes.len() as u64 });
                offset += bytes.len() as u64;
            }
            index.sort_by_key(|place| place.digest);
            let places: Vec<u8> = index.iter().copied().flat_map(Place::to_bytes).collect();
            output.write_all(&places)?;
            output.write_all(&MAGIC)?;
            output.write_all(&entry::VERSION.to_le_bytes())?;
            output.write_all(&(index.len() as u64).to_le_bytes())?;
            output.write_all(blake3::hash(&places).as_bytes())?;
            output.flush()
        });
        written.map_err(|cause| error!(StorageFailed, "{} cannot be written", path.display()).caused_by(cause))?;
        Ok(index.len() as u64)
    }

    /// Opens a bundle and reads its index.
    ///
    /// `StorageFailed` if it cannot be read or somebody else could have written it, `FileCorrupted` if it is damaged or no
    /// bundle, `FileTooNew` and `Unsupported` if another version wrote it.
    pub fn open(path: &Path) -> Result<Bundle> {
        let failed = |cause: io::Error| error!(StorageFailed, "it cannot be read").caused_by(cause);
        let open = || {
            let flags = OFlags::NONBLOCK.bits() as i32;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
            check_owner(&file.metadata().map_err(failed)?)?;
            let index = read_index(&file).map_err(failed)??;
            Ok(Bundle { path: path.to_owned(), file, index })
        };
        open().map_err(|error: Error| error.context(format!("the bundle {}", path.display())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many kernels are in it.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The machine code of a key. What is damaged is a miss, and the log says so.
    pub fn load(&self, key: &Key) -> Option<Arc<[u8]>> {
        let position = self.index.binary_search_by_key(key.digest(), |place| place.digest).ok()?;
        let read = self.read(&self.index[position]).map_err(|cause| cause.to_string());
        match read.and_then(|bytes| entry::decode(&bytes, key).map_err(str::to_string)) {
            Ok(machine_code) => Some(machine_code),
            Err(reason) => {
                warn!("kernel {key} of the bundle {} is left out: {reason}", self.path.display());
                None
            }
        }
    }

    /// Every kernel, in the order of keys, each read and checked when its turn comes.
    pub fn kernels(&self) -> impl Iterator<Item = Result<(Key, Vec<u8>)>> {
        self.index.iter().map(|place| {
            let read = self.read(place).map_err(|cause| cause.to_string());
            let checked = read.and_then(|bytes| match entry::decode_any(&bytes)? {
                (key, _) if *key.digest() != place.digest => Err("it is the kernel of something else".into()),
                kernel => Ok(kernel),
            });
            checked.map_err(|reason| {
                let name = blake3::Hash::from_bytes(place.digest).to_hex();
                error!(FileCorrupted, "the bundle {}: kernel {name}: {reason}; get it again", self.path.display())
            })
        })
    }

    fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        // The index was checked against the size of the file.
        let mut bytes = vec![0; place.length as usize];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        Ok(bytes)
    }
}

impl Place {
    fn to_bytes(self) -> [u8; PLACE] {
        let mut bytes = [0; PLACE];
        bytes[..32].copy_from_slice(&self.digest);
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Option<Place> {
        let (digest, rest) = bytes.split_first_chunk::<32>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (length, _) = rest.split_first_chunk::<8>()?;
        Some(Place { digest: *digest, offset: u64::from_le_bytes(*offset), length: u64::from_le_bytes(*length) })
    }
}

/// Refuses what somebody else could have put there.
fn check_owner(metadata: &std::fs::Metadata) -> Result<()> {
    let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if !metadata.is_file() {
        fail!(StorageFailed, "it is not a file");
    }
    if owner != 0 && owner != me {
        fail!(
            StorageFailed,
            "it belongs to user {owner}, and its machine code would run as yours; if you trust it, copy it"
        );
    }
    if metadata.mode() & 0o022 != 0 {
        fail!(
            StorageFailed,
            "others may write to it, and its machine code would run as yours; if you trust it, chmod go-w"
        );
    }
    Ok(())
}

/// The index, or what is wrong with the file. Any bytes may come.
fn read_index(file: &File) -> io::Result<Result<Vec<Place>>> {
    let damaged = |what: &str| Ok(Err(Error::new(Status::FileCorrupted, format!("{what}; get it again"))));
    let size = file.metadata()?.len();
    let Some(end) = size.checked_sub(FOOTER as u64) else { return damaged("it is too short for a bundle") };
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, end)?;
    let version = u32::from_le_bytes([footer[8], footer[9], footer[10], footer[11]]);
    let mut count = [0; 8];
    count.copy_from_slice(&footer[12..20]);
    if footer[..8] != MAGIC {
        return damaged("it is not a bundle, or cut short");
    }
    if version != entry::VERSION {
        let status = if version > entry::VERSION { Status::FileTooNew } else { Status::Unsupported };
        let ours = entry::VERSION;
        let sentence =
            format!("it is of version {version}, and this library reads {ours}; export it with the same library");
        return Ok(Err(Error::new(status, sentence)));
    }
    let length = u64::from_le_bytes(count).checked_mul(PLACE as u64);
    let Some((length, start)) = length.and_then(|length| Some((length, end.checked_sub(length)?))) else {
        return damaged("its index is longer than the file");
    };
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, start)?;
    if *blake3::hash(&bytes).as_bytes() != footer[20..] {
        return damaged("the checksum of its index is wrong");
    }
    let index: Vec<Place> = bytes.chunks_exact(PLACE).filter_map(Place::of_bytes).collect();
    let inside = |place: &Place| place.offset.checked_add(place.length).is_some_and(|stop| stop <= start);
    let sorted = index.is_sorted_by(|one, next| one.digest < next.digest);
    if sorted && index.iter().all(inside) { Ok(Ok(index)) } else { damaged("its index contradicts itself") }
}
