//! Machine code with what a launch of it must know, as one block of bytes: the CUDA backend's format of machine code.

use super::LaunchShape;
use super::plan::MOST_WEIGHT;
use crate::{Error, Result, error, fail};
use serde::{Deserialize, Serialize};

/// The first bytes of an image: a name and the version of the format.
const MAGIC: [u8; 8] = *b"KSMCUDA\x06";

/// A compiled kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// What a launch must use.
    pub shape: LaunchShape,
    /// The cubin.
    pub machine_code: Vec<u8>,
}

impl Image {
    /// The image as bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        postcard::to_extend(self, MAGIC.to_vec())
            .map_err(|reason| error!(CompileFailed, "a compiled kernel could not be serialised").caused_by(reason))
    }

    /// The image in these bytes; `FileCorrupted` if they are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Image> {
        let damaged = || -> Error {
            error!(
                FileCorrupted,
                "{} bytes of machine code are not a CUDA kernel of this version; compile it again",
                bytes.len()
            )
        };
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(damaged)?;
        let image: Image = postcard::from_bytes(rest).map_err(|reason| damaged().caused_by(reason))?;
        let LaunchShape { rows, threads, shared_bytes, waves, busy_weight, pieces, in_turn: _ } = image.shape;
        if !image.machine_code.starts_with(b"\x7fELF") {
            fail!(FileCorrupted, "the machine code of a CUDA kernel is not an ELF file; compile it again");
        }
        if !(1..=512).contains(&rows)
            || !threads.is_multiple_of(32)
            || !(32..=1024).contains(&threads)
            || shared_bytes > 232_448
            || !(1..=64).contains(&waves)
            || !(100..=MOST_WEIGHT).contains(&busy_weight)
            || !(1..=64).contains(&pieces)
        {
            fail!(
                FileCorrupted,
                "a CUDA kernel asks for {threads} threads, {rows} rows, {shared_bytes} bytes, {waves} waves, {busy_weight} % of \
                 blocks for busy seeds and {pieces} pieces of the others"
            );
        }
        Ok(image)
    }
}
