//! Checkpoints that are damaged, and checkpoints that somebody forged: their checksum is right and what they say is not.

use crate::document;
use crate::generator::Choices;
use serde_json::Value;

/// How the checksum begins, in JSON within JSON, and how many digits follow.
const CHECKSUM: &[u8] = br#"\"crc32\":\""#;
const DIGITS: usize = 8;

/// With some bytes changed, or cut off; sealed again every second time.
pub fn damaged(mut file: Vec<u8>, choices: &mut Choices<'_>) -> Vec<u8> {
    for _ in 0..1 + choices.below(4) {
        let at = (choices.below(256) * 256 + choices.below(256)) % file.len();
        file[at] = choices.below(256) as u8;
    }
    if choices.once_in(8) {
        file.truncate((choices.below(256) * 256 + choices.below(256)) % file.len());
    }
    if choices.once_in(2) { file } else { sealed(file) }
}

/// With some words of its document, or of what it says of its tensors, exchanged; sealed again.
pub fn with_other_words(file: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let Some((mut header, data)) = parts(file) else { return file.to_vec() };
    if choices.once_in(4) {
        return joined(&document::edit(&header.to_string(), choices, 4), data);
    }
    let entry = &mut header["__metadata__"]["kasmina"];
    let edited = entry.as_str().map(|text| document::edit(text, choices, 4));
    *entry = edited.into();
    joined(&header.to_string(), data)
}

/// The header, and what follows it.
fn parts(file: &[u8]) -> Option<(Value, &[u8])> {
    let length = usize::try_from(u64::from_le_bytes(*file.first_chunk()?)).ok()?;
    let header = serde_json::from_slice(file.get(8..)?.get(..length)?).ok()?;
    Some((header, &file[8 + length..]))
}

fn joined(header: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{header:<length$}", length = header.len().next_multiple_of(8));
    sealed([&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat())
}

/// With the checksum of what is there.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let found = file.windows(CHECKSUM.len()).position(|window| window == CHECKSUM);
    let Some(place) = found.map(|at| at + CHECKSUM.len()).filter(|place| place + DIGITS <= file.len()) else {
        return file;
    };
    file[place..place + DIGITS].fill(b'0');
    let checksum = format!("{:08x}", crc32fast::hash(&file));
    file[place..place + DIGITS].copy_from_slice(checksum.as_bytes());
    file
}
