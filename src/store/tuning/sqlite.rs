//! The tuning database in a file that other processes use at the same time, or in memory.

use super::backend::{Backend, Failure, Row, Value};
use super::schema::{LATEST, VERSIONS};
use crate::store::disk::check_directory;
use crate::store::turn::Turn;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params_from_iter};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for other processes that write.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every SQLite database begins with.
const HEADER: &[u8] = b"SQLite format 3\0";

/// File systems of other machines, by the number that the kernel gives them: SQLite's log needs shared memory and locks that
/// they do not have, or claim to.
const NETWORK: [(u64, &str); 16] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00C3_6400, "Ceph"),
    (0x1983_0326, "BeeGFS"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x786F_4256, "a shared folder of VirtualBox"),
    (0xAAD7_AAEA, "PanFS"),
];

/// Where a file is, and whose.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub path: PathBuf,
    /// Whether the directory is this library's own: it is then made private, and a file in it that is no database is a damaged
    /// one of ours.
    pub private: bool,
}

/// A connection to a file or to memory.
pub(super) struct Sqlite {
    connection: Connection,
    /// The file, and its device and inode as it was opened.
    file: Option<(File, (u64, u64))>,
}

impl Sqlite {
    /// An empty database that ends with the process.
    pub fn in_memory() -> Result<Sqlite, Failure> {
        let connection = Connection::open_in_memory().map_err(failure)?;
        prepare(&connection)?;
        Ok(Sqlite { connection, file: None })
    }

    /// The database in a file. Where there is none it is made, or if `make` is false, `None`.
    pub fn open(file: &File, make: bool) -> Result<Option<Sqlite>, Failure> {
        let path = &file.path;
        let directory = path.parent().unwrap_or(Path::new("/"));
        if !make && !path.exists() {
            return Ok(None);
        }
        let made = make_directory(directory, file.private);
        refuse_network(directory)?;
        // One process at a time makes the file, or brings it up to the last version. On a read-only disk nobody does.
        let turn = take_turn(&with_ending(path, ".lock"));
        let opened = made.and_then(|()| open_file(path));
        let identity = opened.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Failure::Unusable(error.to_string()),
            _ => Failure::Refused(error.to_string()),
        })?;
        let opened = connect(path).and_then(|connection| {
            refuse_foreign(&connection)?;
            prepare(&connection)?;
            Ok(connection)
        });
        let connection = match opened {
            Err(Failure::Damaged(reason)) if !file.private && !is_database(path) => {
                return Err(Failure::Unusable(format!(
                    "it is no database ({reason}); remove it, or name another file"
                )));
            }
            Err(Failure::Damaged(reason)) => {
                let place = put_aside(path).map_err(|error| Failure::Unusable(format!("{reason}; {error}")))?;
                drop(turn);
                return Err(Failure::Damaged(format!("{reason}; it is now {}", place.display())));
            }
            opened => opened?,
        };
        Ok(Some(Sqlite { connection, file: Some((file.clone(), identity)) }))
    }
}

impl Backend for Sqlite {
    fn execute(&mut self, statement: &'static str, values: &[Value]) -> Result<u64, Failure> {
        let changed = self.connection.execute(statement, params_from_iter(values)).map_err(failure)?;
        Ok(changed as u64)
    }

    fn query(&mut self, statement: &'static str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        let mut prepared = self.connection.prepare(statement).map_err(failure)?;
        let columns = prepared.column_count();
        let mut rows = prepared.query(params_from_iter(values)).map_err(failure)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(failure)? {
            let read = |column| row.get_ref(column).map_err(failure).and_then(read_value);
            all.push((0..columns).map(read).collect::<Result<Row, Failure>>()?);
        }
        Ok(all)
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(failure)
    }

    fn is_current(&self) -> bool {
        self.file.as_ref().is_none_or(|(file, opened)| identity(&file.path).is_ok_and(|named| named == *opened))
    }

    fn set_aside(self: Box<Self>) -> Result<String, Failure> {
        let Some((file, opened)) = self.file else { return Ok("nothing of it is kept".into()) };
        drop(self.connection);
        let _turn = take_turn(&with_ending(&file.path, ".lock"));
        // Another process may have done it already, and this would be the new one.
        if identity(&file.path).is_ok_and(|named| named == opened) {
            put_aside(&file.path).map_err(|error| Failure::Unusable(error.to_string()))?;
        }
        Ok(format!("it is now {}", with_ending(&file.path, ".damaged").display()))
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn read_value(value: ValueRef<'_>) -> Result<Value, Failure> {
    Ok(match value {
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        // What is no text is damaged; its row will be found not to be what it was.
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Null => Value::Bytes(Vec::new()),
    })
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failure)?;
    let read = connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
    match read.as_ref().map_err(rusqlite::Error::sqlite_error_code) {
        Err(Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) => {}
        _ => return Ok(connection),
    }
    // The log cannot be made beside it, so on this disk nobody writes, and it can be read without one.
    let name: String = path.as_os_str().as_encoded_bytes().iter().map(|byte| format!("%{byte:02x}")).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{name}?immutable=1"), flags).map_err(failure)
}

/// Sets the connection up and brings the tables up to the last version.
fn prepare(connection: &Connection) -> Result<(), Failure> {
    connection.busy_timeout(PATIENCE).map_err(failure)?;
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF").map_err(failure)?;
    let version = version(connection)?;
    if version > LATEST {
        return Err(Failure::Unusable(format!(
            "it is of version {version}, and this library knows {LATEST}; use a newer one, or name another file"
        )));
    }
    if connection.is_readonly("main").map_err(failure)? {
        return match version {
            LATEST => Ok(()),
            _ => Err(Failure::Unusable("it is of an older version and cannot be written".into())),
        };
    }
    let journal: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failure)?;
    if !["wal", "memory"].contains(&journal.as_str()) {
        return Err(Failure::Unusable("its file system has no shared memory, which a log needs".into()));
    }
    connection.execute_batch("PRAGMA synchronous = NORMAL").map_err(failure)?;
    if version == LATEST {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE").map_err(failure)?;
    for step in &VERSIONS[usize::try_from(version).unwrap_or(0)..] {
        connection.execute_batch(step).map_err(failure)?;
    }
    connection.execute_batch(&format!("PRAGMA user_version = {LATEST}; COMMIT")).map_err(failure)
}

fn version(connection: &Connection) -> Result<i64, Failure> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failure)
}

/// Leaves alone what another program keeps in the file.
fn refuse_foreign(connection: &Connection) -> Result<(), Failure> {
    let tables = "SELECT COUNT(*), COALESCE(SUM(name = 'kasmina_problems'), 0) FROM sqlite_schema WHERE type = 'table'";
    let (all, ours): (i64, i64) =
        connection.query_row(tables, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failure)?;
    if all > 0 && ours == 0 {
        return Err(Failure::Unusable("it is the database of another program; name another file".into()));
    }
    Ok(())
}

fn make_directory(directory: &Path, private: bool) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if private { check_directory(directory) } else { Ok(()) }
}

fn refuse_network(directory: &Path) -> Result<(), Failure> {
    let Ok(found) = rustix::fs::statfs(directory) else { return Ok(()) };
    match network(found.f_type as u64) {
        Some(name) => Err(Failure::Unusable(format!("it is on {name}, which has no shared memory for its log"))),
        None => Ok(()),
    }
}

/// The name of a network file system. The kernel gives the number in 32 bits, with a sign on some machines.
fn network(number: u64) -> Option<&'static str> {
    NETWORK.iter().find(|(known, _)| *known == number & 0xFFFF_FFFF).map(|(_, name)| *name)
}

/// Makes the file if there is none, and refuses one that is none or not of this user. Says which it is.
fn open_file(path: &Path) -> io::Result<(u64, u64)> {
    let invalid = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if !path.exists() => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return invalid("it is not a file but a directory, a symbolic link or the like".into());
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return invalid(format!("it belongs to user {}", metadata.uid()));
    }
    Ok((metadata.dev(), metadata.ino()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Whether it is, or once was, a database.
fn is_database(path: &Path) -> bool {
    let mut header = [0; HEADER.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok() && header == HEADER
}

/// Waits for other processes that make the same file; not for ever, and not where there are no locks.
fn take_turn(path: &Path) -> Option<Turn> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match Turn::take(path) {
            Ok(Some(turn)) => return Some(turn),
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return None,
        }
    }
    None
}

/// Gives a damaged database and its log names that say so, in place of one that was damaged before. Whoever wants to can
/// still look into them.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let place = with_ending(path, ".damaged");
    fs::rename(path, &place)?;
    let _ = fs::rename(with_ending(path, "-wal"), with_ending(&place, "-wal"));
    let _ = fs::remove_file(with_ending(path, "-shm"));
    Ok(place)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What an error of SQLite means here.
fn failure(error: rusqlite::Error) -> Failure {
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Damaged(reason),
        // The statements are right, so it is the tables that are not.
        Some(ErrorCode::Unknown | ErrorCode::TypeMismatch | ErrorCode::ConstraintViolation) => Failure::Damaged(reason),
        _ => Failure::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn file_systems_of_other_machines_are_known_by_their_numbers() {
        assert_eq!(network(0x6969), Some("NFS"));
        assert_eq!(network(0xFFFF_FFFF_FF53_4D42), Some("CIFS"), "the number is negative on some machines");
        for local in [0xEF53, 0x0102_1994, 0x794C_7630, 0x5846_5342, 0x9123_683E] {
            assert_eq!(network(local), None, "ext4, tmpfs, overlayfs, XFS and Btrfs are local");
        }
    }
}
