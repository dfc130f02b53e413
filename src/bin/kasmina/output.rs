//! Where results and errors go.

use kasmina::{Error, Result, error, fail};
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::Path;

/// Writes a text to a file, or to standard output if there is none or it is `-`.
pub fn text(text: &str, file: Option<&Path>) -> Result<()> {
    bytes(text.as_bytes(), file)
}

/// Writes bytes that are no text, which a terminal is spared.
pub fn binary(content: &[u8], what: &str, file: Option<&Path>) -> Result<()> {
    if file.is_none() && stdout().is_terminal() {
        fail!(
            InvalidArgument,
            "{what} is not text, and standard output is a terminal; give -o FILE, or -o - to force it"
        );
    }
    bytes(content, file)
}

/// Says what went wrong.
pub fn complain(error: &Error) {
    // Where standard error is closed as well, there is nobody to tell.
    let _ = writeln!(stderr(), "kasmina: {error}");
}

fn bytes(content: &[u8], file: Option<&Path>) -> Result<()> {
    match file.filter(|file| *file != Path::new("-")) {
        Some(file) => std::fs::write(file, content)
            .map_err(|cause| error!(StorageFailed, "{} cannot be written", file.display()).caused_by(cause)),
        None => match stdout().write_all(content).and_then(|()| stdout().flush()) {
            Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(cause) => Err(error!(StorageFailed, "standard output cannot be written").caused_by(cause)),
            Ok(()) => Ok(()),
        },
    }
}
