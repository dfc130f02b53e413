//! One stored kernel as bytes:
//!
//! ```text
//! magic [8] | version u32 | preimage length u64 | payload length u64 | preimage | payload
//! CRC-32 of all of the above u32 | BLAKE3 of the payload [32]
//! ```
//!
//! Numbers are little endian. The checksum finds damage anywhere; the hash makes sure of what will be run.

use super::Key;

/// The version of this layout; also the name of the directory, so that versions never meet.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"KASMINA\n";
const HEADER: usize = 8 + 4 + 8 + 8;
const CHECKSUM: usize = 4;
const HASH: usize = 32;

/// The bytes of an entry.
pub(super) fn encode(key: &Key, payload: &[u8]) -> Vec<u8> {
    let preimage = key.preimage();
    let mut bytes = Vec::with_capacity(HEADER + preimage.len() + payload.len() + CHECKSUM + HASH);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((preimage.len() as u64).to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(preimage);
    bytes.extend(payload);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(blake3::hash(payload).as_bytes());
    bytes
}

/// The payload of the entry of this key, or what is wrong with the bytes. Any bytes may come.
pub(super) fn decode<'a>(bytes: &'a [u8], key: &Key) -> Result<&'a [u8], &'static str> {
    let (contents, hash) = bytes.split_last_chunk::<HASH>().ok_or("it is cut short")?;
    let (contents, checksum) = contents.split_last_chunk::<CHECKSUM>().ok_or("it is cut short")?;
    if crc32fast::hash(contents) != u32::from_le_bytes(*checksum) {
        return Err("its checksum is wrong");
    }
    let (magic, rest) = contents.split_first_chunk::<8>().ok_or("it has no header")?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or("it has no header")?;
    let (preimage_length, rest) = rest.split_first_chunk::<8>().ok_or("it has no header")?;
    let (payload_length, rest) = rest.split_first_chunk::<8>().ok_or("it has no header")?;
    if *magic != MAGIC || u32::from_le_bytes(*version) != VERSION {
        return Err("it is not of this format");
    }
    if u64::from_le_bytes(*preimage_length) != key.preimage().len() as u64 {
        return Err("it is the kernel of something else");
    }
    let (preimage, payload) = rest.split_at_checked(key.preimage().len()).ok_or("its lengths are wrong")?;
    if preimage != key.preimage() {
        return Err("it is the kernel of something else");
    }
    if u64::from_le_bytes(*payload_length) != payload.len() as u64 {
        return Err("its lengths are wrong");
    }
    if blake3::hash(payload) != *hash {
        return Err("its hash is wrong");
    }
    Ok(payload)
}
