//! One stored kernel as bytes:
//!
//! ```text
//! magic [8] | version u32 | preimage length u64 | payload length u64 | preimage | payload, compressed by zstd
//! CRC-32 of all of the above u32 | BLAKE3 of the payload [32]
//! ```
//!
//! Numbers are little endian. The checksum finds damage anywhere; the hash makes sure of what will be run.

use super::Key;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use zstd::bulk::Decompressor;

/// The version of this layout; also the name of the directory, so that versions never meet.
pub(super) const VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"KASMINA\n";
const HEADER: usize = 8 + 4 + 8 + 8;
const CHECKSUM: usize = 4;
const HASH: usize = 32;

/// How hard zstd tries: a few milliseconds for a kernel that took a second to compile. What is smaller is read faster as well, by
/// a sixth than at level 3, and more would gain neither.
const LEVEL: i32 = 9;

/// The most bytes of machine code that an entry has, so that room is never made for a number that means nothing.
const LARGEST: u64 = 256 << 20;

/// The bytes of an entry. An error is one of memory, or the machine code is too large.
pub(super) fn encode(key: &Key, payload: &[u8]) -> io::Result<Vec<u8>> {
    let preimage = key.preimage();
    if payload.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} bytes of machine code", payload.len())));
    }
    let compressed = zstd::bulk::compress(payload, LEVEL)?;
    let mut bytes = Vec::with_capacity(HEADER + preimage.len() + compressed.len() + CHECKSUM + HASH);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((preimage.len() as u64).to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(preimage);
    bytes.extend(compressed);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(blake3::hash(payload).as_bytes());
    Ok(bytes)
}

/// The payload of the entry of this key, or what is wrong with the bytes. Any bytes may come.
pub(super) fn decode(bytes: &[u8], key: &Key) -> Result<Arc<[u8]>, &'static str> {
    let entry = Entry::parse(bytes)?;
    if entry.preimage != key.preimage() {
        return Err("it is the kernel of something else");
    }
    entry.payload()
}

/// The key and the payload of an entry, whatever its key is.
pub(super) fn decode_any(bytes: &[u8]) -> Result<(Key, Vec<u8>), &'static str> {
    let entry = Entry::parse(bytes)?;
    Ok((Key::of_preimage(entry.preimage), entry.payload()?.to_vec()))
}

/// Fills what is given. With the memory of the last time: to ask the system for it anew takes longer than to decompress a kernel.
fn decompress(compressed: &[u8], to: &mut [u8]) -> io::Result<usize> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(compressed, to)
    })
}

/// An entry of which all is known but whether its payload is what it was.
struct Entry<'a> {
    preimage: &'a [u8],
    length: u64,
    compressed: &'a [u8],
    hash: [u8; HASH],
}

impl Entry<'_> {
    fn parse(bytes: &[u8]) -> Result<Entry<'_>, &'static str> {
        let (contents, hash) = bytes.split_last_chunk::<HASH>().ok_or("it is cut short")?;
        let (contents, checksum) = contents.split_last_chunk::<CHECKSUM>().ok_or("it is cut short")?;
        if crc32fast::hash(contents) != u32::from_le_bytes(*checksum) {
            return Err("its checksum is wrong");
        }
        let (magic, rest) = contents.split_first_chunk::<8>().ok_or("it has no header")?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or("it has no header")?;
        let (preimage_length, rest) = rest.split_first_chunk::<8>().ok_or("it has no header")?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or("it has no header")?;
        if *magic != MAGIC || u32::from_le_bytes(*version) != VERSION {
            return Err("it is not of this format");
        }
        let preimage_length = usize::try_from(u64::from_le_bytes(*preimage_length)).unwrap_or(usize::MAX);
        let (preimage, compressed) = rest.split_at_checked(preimage_length).ok_or("its lengths are wrong")?;
        Ok(Entry { preimage, length: u64::from_le_bytes(*length), compressed, hash: *hash })
    }

    fn payload(&self) -> Result<Arc<[u8]>, &'static str> {
        // The frame says as well what it holds, and room is given only for what both agree on.
        let framed = zstd::zstd_safe::get_frame_content_size(self.compressed).ok().flatten();
        if framed != Some(self.length) || self.length > LARGEST {
            return Err("its lengths are wrong");
        }
        // Where it stays, for new memory takes longer than what is done with it.
        let mut payload: Arc<[u8]> = std::iter::repeat_n(0, self.length as usize).collect();
        let filled = Arc::get_mut(&mut payload).and_then(|payload| decompress(self.compressed, payload).ok());
        if filled.ok_or("it cannot be decompressed")? as u64 != self.length {
            return Err("its lengths are wrong");
        }
        if blake3::hash(&payload) != self.hash {
            return Err("its hash is wrong");
        }
        Ok(payload)
    }
}
