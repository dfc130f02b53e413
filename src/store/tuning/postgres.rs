//! The tuning database on a PostgreSQL server.
//!
//! The client has a thread of its own: it drives a private single-threaded runtime, which must not run inside somebody
//! else's, and a server that is silent must not hold up whoever asks. After some seconds the caller goes its way.

use super::backend::{Backend, Failure, Row, Value};
use super::schema::{LATEST, VERSIONS};
use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, Config, NoTls, Statement};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long to try to connect, unless the URL says otherwise.
const CONNECT: Duration = Duration::from_secs(3);

/// How long the server may take for a statement, and for waiting for others that write.
const STATEMENT: Duration = Duration::from_secs(10);

/// How much longer to wait for an answer than the server should take.
const GRACE: Duration = Duration::from_secs(1);

/// The advisory lock of those who write: the letters of the library's name. Without order they would wait for each other's rows.
const LOCK: &str = "SELECT pg_advisory_xact_lock(30224970892799585)";

/// A connection, used by one thread and held by another.
pub(super) struct Server {
    jobs: Sender<Job>,
}

struct Job {
    statement: &'static str,
    values: Vec<Value>,
    /// Whether rows are wanted and not their number.
    rows: bool,
    answer: Sender<Result<Answer, Failure>>,
}

enum Answer {
    Changed(u64),
    Rows(Vec<Row>),
}

impl Server {
    /// Connects, and brings the tables up to the last version.
    pub fn open(url: &str) -> Result<Server, Failure> {
        // What the parser says may quote the URL, and so a password.
        let unreadable = |_| Failure::Unusable("its URL cannot be read; write postgres://user@host/database".into());
        let mut config: Config = url.parse().map_err(unreadable)?;
        let connect = config.get_connect_timeout().copied().unwrap_or(CONNECT);
        config.connect_timeout(connect).tcp_user_timeout(STATEMENT);
        if config.get_application_name().is_none() {
            config.application_name("kasmina");
        }
        let (jobs, to_do) = channel();
        let (ready, connected) = channel();
        let work = move || match begin(&config) {
            Ok(client) => {
                let _ = ready.send(Ok(()));
                serve(client, &to_do);
            }
            Err(failure) => drop(ready.send(Err(failure))),
        };
        thread::Builder::new()
            .name("kasmina-tuning".into())
            .spawn(work)
            .map_err(|error| Failure::Unusable(format!("there is no thread for its client: {error}")))?;
        wait(&connected, connect + GRACE)?;
        Ok(Server { jobs })
    }

    fn ask(&mut self, statement: &'static str, values: &[Value], rows: bool) -> Result<Answer, Failure> {
        let (answer, answered) = channel();
        let job = Job { statement, values: values.to_vec(), rows, answer };
        self.jobs.send(job).map_err(|_| Failure::Unusable("the connection is closed".into()))?;
        wait(&answered, STATEMENT + GRACE)
    }
}

impl Backend for Server {
    fn execute(&mut self, statement: &'static str, values: &[Value]) -> Result<u64, Failure> {
        match self.ask(statement, values, false)? {
            Answer::Changed(rows) => Ok(rows),
            Answer::Rows(rows) => Ok(rows.len() as u64),
        }
    }

    fn query(&mut self, statement: &'static str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        match self.ask(statement, values, true)? {
            Answer::Rows(rows) => Ok(rows),
            Answer::Changed(_) => Ok(Vec::new()),
        }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.execute("BEGIN", &[])?;
        self.execute(LOCK, &[]).map(drop)
    }

    fn set_aside(self: Box<Self>) -> Result<String, Failure> {
        Err(Failure::Unusable("its tables are not those of this library".into()))
    }
}

fn wait<T>(answered: &Receiver<Result<T, Failure>>, patience: Duration) -> Result<T, Failure> {
    answered.recv_timeout(patience).unwrap_or_else(|error| {
        Err(Failure::Unusable(match error {
            RecvTimeoutError::Timeout => format!("the server did not answer within {} s", patience.as_secs()),
            RecvTimeoutError::Disconnected => "the connection is closed".into(),
        }))
    })
}

fn begin(config: &Config) -> Result<Client, Failure> {
    let unusable = |error: postgres::Error| Failure::Unusable(describe(&error));
    let mut client = config.connect(NoTls).map_err(unusable)?;
    let milliseconds = STATEMENT.as_millis();
    let settings = format!("SET statement_timeout = {milliseconds}; SET lock_timeout = {milliseconds}");
    client.batch_execute(&settings).map_err(unusable)?;
    // Where everything is there, nothing is written: the server may be a copy that cannot be.
    if version(&mut client).map_err(unusable)? == Some(LATEST) {
        return Ok(client);
    }
    migrate(&mut client).map_err(unusable)??;
    Ok(client)
}

fn version(client: &mut Client) -> Result<Option<i64>, postgres::Error> {
    let there: bool = client.query_one("SELECT to_regclass('kasmina_schema') IS NOT NULL", &[])?.get(0);
    if !there {
        return Ok(None);
    }
    Ok(client.query_opt("SELECT version FROM kasmina_schema", &[])?.map(|row| row.get(0)))
}

fn migrate(client: &mut Client) -> Result<Result<(), Failure>, postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.execute(LOCK, &[])?;
    transaction.batch_execute("CREATE TABLE IF NOT EXISTS kasmina_schema (version BIGINT NOT NULL)")?;
    let version = transaction.query_opt("SELECT version FROM kasmina_schema", &[])?.map_or(0, |row| row.get(0));
    if version > LATEST {
        return Ok(Err(Failure::Unusable(format!(
            "its tables are of version {version}, and this library knows {LATEST}; use a newer one, or another database"
        ))));
    }
    for step in &VERSIONS[usize::try_from(version).unwrap_or(0)..] {
        transaction.batch_execute(step)?;
    }
    transaction.execute("DELETE FROM kasmina_schema", &[])?;
    transaction.execute("INSERT INTO kasmina_schema VALUES ($1)", &[&LATEST])?;
    transaction.commit()?;
    Ok(Ok(()))
}

/// Does jobs until nobody can send any more.
fn serve(mut client: Client, jobs: &Receiver<Job>) {
    let mut prepared = HashMap::new();
    for Job { statement, values, rows, answer } in jobs {
        let done = work(&mut client, &mut prepared, statement, &values, rows).map_err(|error| failure(&error));
        // Who has not waited needs no answer.
        let _ = answer.send(done);
    }
}

fn work(
    client: &mut Client,
    prepared: &mut HashMap<&'static str, Statement>,
    statement: &'static str,
    values: &[Value],
    rows: bool,
) -> Result<Answer, postgres::Error> {
    let prepared = match prepared.get(statement) {
        Some(prepared) => prepared.clone(),
        None => prepared.entry(statement).or_insert(client.prepare(statement)?).clone(),
    };
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(parameter).collect();
    if !rows {
        return client.execute(&prepared, &values).map(Answer::Changed);
    }
    let rows = client.query(&prepared, &values)?;
    rows.iter().map(read_row).collect::<Result<_, _>>().map(Answer::Rows)
}

fn parameter(value: &Value) -> &(dyn ToSql + Sync) {
    match value {
        Value::Integer(number) => number,
        Value::Real(number) => number,
        Value::Text(text) => text,
        Value::Bytes(bytes) => bytes,
    }
}

fn read_row(row: &postgres::Row) -> Result<Row, postgres::Error> {
    let read = |(column, of): (usize, &postgres::Column)| {
        Ok(match *of.type_() {
            Type::INT8 => Value::Integer(row.try_get(column)?),
            Type::FLOAT8 => Value::Real(row.try_get(column)?),
            Type::TEXT => Value::Text(row.try_get(column)?),
            _ => Value::Bytes(row.try_get(column)?),
        })
    };
    row.columns().iter().enumerate().map(read).collect()
}

/// What an error of the server, or of the way to it, means here.
fn failure(error: &postgres::Error) -> Failure {
    let reason = describe(error);
    match error.code() {
        // The tables or their columns are others, or the server goes away.
        Some(code)
            if [
                SqlState::UNDEFINED_TABLE,
                SqlState::UNDEFINED_COLUMN,
                SqlState::DATATYPE_MISMATCH,
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
            ]
            .contains(code) =>
        {
            Failure::Unusable(reason)
        }
        Some(_) => Failure::Refused(reason),
        None => Failure::Unusable(reason),
    }
}

/// The server's sentence, or what is beneath the client's.
fn describe(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
