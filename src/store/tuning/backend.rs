//! What the tuning database asks of what keeps it: statements with numbered values, and transactions. The statements are the
//! same for all.

/// A value of a statement or of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) type Row = Vec<Value>;

/// Why something did not work, and so what is to be done.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// What is kept contradicts itself: it is to be built anew.
    Damaged(String),
    /// It cannot be used by this process, now or later.
    Unusable(String),
    /// This once; the next time it may work.
    Refused(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Failure::Damaged(reason) | Failure::Unusable(reason) | Failure::Refused(reason)) = self;
        formatter.write_str(reason)
    }
}

/// An open connection. Its statements begin to count from `$1`, in the order in which the numbers first stand there.
pub(super) trait Backend: Send {
    /// Runs a statement; returns how many rows it changed.
    fn execute(&mut self, statement: &'static str, values: &[Value]) -> Result<u64, Failure>;

    /// The rows that a statement gives.
    fn query(&mut self, statement: &'static str, values: &[Value]) -> Result<Vec<Row>, Failure>;

    /// Begins a transaction that will write, after others that write.
    fn begin(&mut self) -> Result<(), Failure>;

    /// Whether it is still what its place names; a file may have been removed, or another put there.
    fn is_current(&self) -> bool {
        true
    }

    /// Puts what is damaged out of the way, so that the next to open it begins anew. Says where it is.
    fn set_aside(self: Box<Self>) -> Result<String, Failure>;
}

/// Does all of it or nothing.
pub(super) fn transaction<T>(
    backend: &mut dyn Backend,
    work: impl FnOnce(&mut dyn Backend) -> Result<T, Failure>,
) -> Result<T, Failure> {
    backend.begin()?;
    let done = work(backend).and_then(|done| backend.execute("COMMIT", &[]).map(|_| done));
    if done.is_err() {
        // It may be that the failure has ended the transaction already.
        let _ = backend.execute("ROLLBACK", &[]);
    }
    done
}
