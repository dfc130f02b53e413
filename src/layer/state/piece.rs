//! The bytes of a column, shared by all copies of the seeds in which they are the same, with the checksum that they must have.

use std::sync::Arc;

/// Some bytes. A clone of what is shared is cheap; who changes it gets bytes of its own.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Nobody else has them; of no meaning while others are shared.
    own: Vec<u8>,
    shared: Option<Shared>,
}

#[derive(Clone, Debug)]
struct Shared {
    bytes: Arc<Vec<u8>>,
    checksum: u32,
}

impl Piece {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Piece {
        Piece { own: bytes, shared: None }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.shared.as_ref().map_or(&self.own, |shared| &shared.bytes)
    }

    /// The bytes, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.shared.is_some() {
            self.make_own();
        }
        &mut self.own
    }

    #[cold]
    fn make_own(&mut self) {
        if let Some(shared) = self.shared.take() {
            self.own = Arc::try_unwrap(shared.bytes).unwrap_or_else(|bytes| bytes.to_vec());
        }
    }

    /// Makes what is here the bytes that all clones share, and its checksum the one that they must have from now on.
    pub fn share(&mut self) {
        if self.shared.is_none() {
            let bytes = std::mem::take(&mut self.own);
            let checksum = crc32fast::hash(&bytes);
            self.shared = Some(Shared { bytes: Arc::new(bytes), checksum });
        }
    }

    /// The CRC-32 that the bytes must have, or of those that are not shared, that they have.
    pub fn checksum(&self) -> u32 {
        self.shared.as_ref().map_or_else(|| crc32fast::hash(&self.own), |shared| shared.checksum)
    }

    /// Whether these bytes have the checksum that the piece must have.
    pub fn vouches_for(&self, bytes: &[u8]) -> bool {
        self.checksum() == crc32fast::hash(bytes)
    }

    /// Whether both are one piece of memory, so that nothing has to be compared.
    pub fn is(&self, other: &Piece) -> bool {
        matches!((&self.shared, &other.shared), (Some(one), Some(two)) if Arc::ptr_eq(&one.bytes, &two.bytes))
    }

    /// Flips a bit and leaves the checksum, if there is one, as a cosmic ray would.
    #[cfg(test)]
    pub fn flip_bit(&mut self, byte: usize) {
        let bytes = self.shared.as_mut().map_or(&mut self.own, |shared| Arc::make_mut(&mut shared.bytes));
        bytes[byte] ^= 1;
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Piece) -> bool {
        self.is(other) || self.bytes() == other.bytes()
    }
}
