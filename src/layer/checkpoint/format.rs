//! The bytes of a checkpoint: safetensors, whose one metadata entry is a JSON document with a format version and a
//! CRC-32 of the whole file.
//!
//! The checksum is taken with its own eight digits as zeros, and it is looked at before anything else is believed.

use crate::graph::DataType;
use crate::{Error, Result, error, fail};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::HashMap;

/// The version this library writes, and the newest it reads.
const FORMAT: u32 = 1;

/// The name of the metadata entry.
const ENTRY: &str = "kasmina";

/// How the checksum begins in the file: JSON within a JSON string. Nothing else can look like it, since a quote inside
/// another string of the document is escaped once more.
const CHECKSUM: &[u8] = br#"\"crc32\":\""#;

/// The checksum before it is known, and while it is computed.
const NO_CHECKSUM: &str = "00000000";

/// The document with what the format adds to it. The order matters: the checksum is the first of its name.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    crc32: String,
    layer: T,
}

/// A checkpoint that is being written.
#[derive(Default)]
pub(super) struct Writer {
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl Writer {
    /// Adds a tensor.
    pub fn add(&mut self, name: impl Into<String>, data_type: DataType, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.push((name.into(), dtype(data_type), shape.to_vec(), bytes));
    }

    /// The file.
    pub fn finish<T: Serialize>(self, layer: &T) -> Result<Vec<u8>> {
        let unwritable = |cause: Box<dyn std::error::Error + Send + Sync>| {
            error!(StorageFailed, "the layer cannot be written as a checkpoint").caused_by(cause)
        };
        let envelope = Envelope { format: FORMAT, crc32: NO_CHECKSUM.to_owned(), layer };
        let document = serde_json::to_string(&envelope).map_err(|cause| unwritable(cause.into()))?;
        let mut views = Vec::with_capacity(self.tensors.len());
        for (name, dtype, shape, bytes) in &self.tensors {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|cause| unwritable(cause.into()))?;
            views.push((name, view));
        }
        let metadata = HashMap::from([(ENTRY.to_owned(), document)]);
        let mut file = safetensors::serialize(views, Some(metadata)).map_err(|cause| unwritable(cause.into()))?;
        let place = checksum_place(&file)?;
        let checksum = checksum(&file, place);
        file[place..place + NO_CHECKSUM.len()].copy_from_slice(checksum.as_bytes());
        Ok(file)
    }
}

/// The tensors of a checkpoint that is being read.
pub(super) struct Reader<'a> {
    tensors: SafeTensors<'a>,
}

impl<'a> Reader<'a> {
    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The bytes of a tensor, which must be of this type and shape.
    pub fn get(&self, name: &str, data_type: DataType, shape: &[usize]) -> Result<&'a [u8]> {
        let tensor = self.tensors.tensor(name).map_err(|cause| corrupted(format!("it lacks {name}"), cause))?;
        if tensor.dtype() != dtype(data_type) || tensor.shape() != shape {
            let (has, shape_of) = (tensor.dtype(), tensor.shape());
            let wanted = data_type.name();
            fail!(FileCorrupted, "the checkpoint's {name} is {has} {shape_of:?} and should be {wanted} {shape:?}");
        }
        Ok(tensor.data())
    }
}

/// Reads a file: its document and its tensors.
///
/// # Errors
///
/// `FileCorrupted` if the checksum does not match or something is missing; `FileTooNew`.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Reader<'_>)> {
    let place = checksum_place(bytes)?;
    let (stored, computed) = (&bytes[place..place + NO_CHECKSUM.len()], checksum(bytes, place));
    if stored != computed.as_bytes() {
        let stored = String::from_utf8_lossy(stored);
        fail!(FileCorrupted, "the checkpoint's checksum is {computed} and should be {stored}; it was damaged");
    }
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|cause| corrupted("its header is damaged", cause))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|cause| corrupted("its header is damaged", cause))?;
    let Some(document) = metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY)) else {
        fail!(FileCorrupted, "these bytes are no checkpoint of a layer: the metadata lacks '{ENTRY}'");
    };

    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } =
        serde_json::from_str(document).map_err(|cause| corrupted("it has no format version", cause))?;
    if format > FORMAT {
        fail!(FileTooNew, "the checkpoint has format {format} and this version reads up to {FORMAT}; use a newer one");
    }
    if format != FORMAT {
        fail!(FileCorrupted, "the checkpoint has format {format}, which never was");
    }
    let envelope: Envelope<T> =
        serde_json::from_str(document).map_err(|cause| corrupted("its document is damaged", cause))?;
    Ok((envelope.layer, Reader { tensors }))
}

fn corrupted(what: impl std::fmt::Display, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    error!(FileCorrupted, "these bytes are no checkpoint that can be read: {what}").caused_by(cause)
}

/// Where the digits of the checksum stand.
fn checksum_place(file: &[u8]) -> Result<usize> {
    let length = file.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let header = usize::try_from(length).ok().and_then(|length| file.get(8..)?.get(..length)).unwrap_or_default();
    let found = header.windows(CHECKSUM.len()).position(|window| window == CHECKSUM);
    found
        .map(|position| 8 + position + CHECKSUM.len())
        .filter(|place| place + NO_CHECKSUM.len() <= 8 + header.len())
        .ok_or_else(|| error!(FileCorrupted, "these bytes are no checkpoint of a layer, or not all of one"))
}

fn checksum(file: &[u8], place: usize) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file[..place]);
    hasher.update(NO_CHECKSUM.as_bytes());
    hasher.update(&file[place + NO_CHECKSUM.len()..]);
    format!("{:08x}", hasher.finalize())
}

fn dtype(data_type: DataType) -> Dtype {
    match data_type {
        DataType::F32 => Dtype::F32,
        DataType::F16 => Dtype::F16,
        DataType::BF16 => Dtype::BF16,
        DataType::F64 => Dtype::F64,
        DataType::I32 => Dtype::I32,
        DataType::I64 => Dtype::I64,
        DataType::Bool => Dtype::BOOL,
        DataType::I8 => Dtype::I8,
        DataType::U8 => Dtype::U8,
        DataType::I16 => Dtype::I16,
        DataType::U16 => Dtype::U16,
        DataType::U32 => Dtype::U32,
    }
}
