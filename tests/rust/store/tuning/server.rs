//! A PostgreSQL server for the tests of this program, and what only a server can do to the tuning database.
//!
//! One server serves all tests, each in a schema of its own. It listens at a socket in a temporary directory and nowhere else.

use super::places::Place;
use super::{candidate, features, problem};
use kasmina::store::{TuningDatabase, TuningLimits, TuningPlace};
use postgres::{Client, NoTls};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Makes a server in a directory of its own, says where it is, and removes both when its standard input ends: that is, when
/// the test program has ended in whatever way.
const SCRIPT: &str = r#"
    set -eu
    programs=$1
    directory=$(mktemp -d "${TMPDIR:-/tmp}/kasmina-postgres-XXXXXX")
    user=
    # PostgreSQL refuses to run as root.
    if [ "$(id -u)" = 0 ]; then
        chown postgres "$directory"
        user="setpriv --reuid=postgres --regid=postgres --clear-groups"
    fi
    server=
    trap 'test -z "$server" || { kill -QUIT $server; wait $server || true; }; rm -rf "$directory"' EXIT
    trap 'exit 1' HUP INT TERM
    cd "$directory"
    $user "$programs/initdb" -D data -U postgres -A trust -E UTF8 --locale=C -N >log 2>&1 || { cat log >&2; exit 1; }
    $user "$programs/postgres" -D data -k "$directory" -c listen_addresses= -c fsync=off -c shared_buffers=16MB \
        >>log 2>&1 </dev/null &
    server=$!
    until "$programs/pg_isready" -q -h "$directory"; do
        kill -0 $server || { cat log >&2; exit 1; }
        sleep 0.05
    done
    echo "$directory"
    read -r _ || true
"#;

/// A schema of its own on the server, if there is one.
pub fn place() -> Option<Place> {
    Some(Place { name: "PostgreSQL", place: TuningPlace::Server(url("")?), directory: None })
}

/// The URL of a new schema, with more parameters.
fn url(parameters: &str) -> Option<String> {
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let server = server()?;
    let schema = format!("test_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed));
    Client::connect(server, NoTls).unwrap().batch_execute(&format!("CREATE SCHEMA {schema}")).unwrap();
    Some(format!("{server}&connect_timeout=60&options=-c%20search_path%3D{schema}{parameters}"))
}

/// The URL of the server. Where PostgreSQL is not installed its tests are skipped, but not on a machine that has to have it.
fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    SERVER.get_or_init(|| start(&programs()?)).as_deref()
}

fn programs() -> Option<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").exists() && programs.join("postgres").exists());
    found.sort();
    let newest = found.pop().map(|programs| programs.to_str().unwrap().to_owned());
    if newest.is_none() {
        assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "PostgreSQL is not installed");
        println!("PostgreSQL is not installed (Debian: apt-get install postgresql): its tests are skipped");
    }
    newest
}

fn start(programs: &str) -> Option<String> {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh", programs]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut directory = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut directory).unwrap();
    assert!(!directory.is_empty(), "the PostgreSQL server does not start: {:?}", child.wait());
    // Its standard input stays open until this program ends.
    std::mem::forget(child);
    Some(format!("postgres://postgres@/postgres?host={}", directory.trim().replace('/', "%2F")))
}

fn open(url: &str) -> TuningDatabase {
    TuningDatabase::new(TuningPlace::Server(url.into()), TuningLimits::default())
}

/// That the database works in memory only, and why.
#[track_caller]
fn assert_in_memory(database: &TuningDatabase, words: &str) {
    database.record(&problem(1), &features("mlp", 64), &[candidate("a", 10)]).unwrap();
    assert!(database.best(&problem(1)).is_some());
    let fault = database.statistics().fault.unwrap();
    assert!(fault.contains(words), "{fault}");
}

#[test]
fn a_server_that_is_away_costs_nothing_but_what_it_would_have_kept() {
    assert_in_memory(&open("postgres://user@/db?host=%2Fnowhere"), "error connecting");
    assert_in_memory(&open("postgres://user@127.0.0.1:1/db"), "error connecting");
    assert_in_memory(&open("postgres://[::1"), "URL cannot be read");
}

#[test]
fn a_server_that_never_answers_holds_nobody_up_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let database = open(&format!("postgres://user@127.0.0.1:{port}/db?connect_timeout=1"));
    let started = Instant::now();
    assert_in_memory(&database, "did not answer within 2 s");
    assert!(started.elapsed() < Duration::from_secs(60), "it waited once, not for each call: {:?}", started.elapsed());
}

#[test]
fn a_password_is_never_shown() {
    let database = open("postgres://user:secret@127.0.0.1:1/db?password=secret#secret");
    assert_in_memory(&database, "");
    let said = format!("{database:?} {} {:?}", database.place(), database.statistics());
    assert!(said.contains("postgres://127.0.0.1:1/db") && !said.contains("secret"), "{said}");
    let odd = open("postgres://user:se@cret:secret@[::1/secret?password=secret");
    assert_in_memory(&odd, "");
    let said = odd.statistics().fault.unwrap();
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn a_connection_that_breaks_leaves_memory() {
    let Some(url) = url("&application_name=doomed") else { return };
    let database = open(&url);
    database.record(&problem(1), &features("mlp", 64), &[candidate("kept", 10)]).unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doomed'";
    Client::connect(server().unwrap(), NoTls).unwrap().batch_execute(end).unwrap();
    assert_eq!(database.best(&problem(1)), None);
    assert!(database.statistics().fault.is_some());
    assert_in_memory(&database, "");
    assert_eq!(open(&url).best(&problem(1)).unwrap().schedule, "kept");
}

#[test]
fn tables_of_a_newer_version_and_tables_that_are_gone_are_left_alone() {
    let Some(url) = url("") else { return };
    open(&url).record(&problem(1), &features("mlp", 64), &[candidate("kept", 10)]).unwrap();
    let mut client = Client::connect(&url, NoTls).unwrap();
    client.batch_execute("UPDATE kasmina_schema SET version = 99").unwrap();
    assert_in_memory(&open(&url), "of version 99");
    client.batch_execute("UPDATE kasmina_schema SET version = 1").unwrap();
    assert_eq!(open(&url).best(&problem(1)).unwrap().schedule, "kept");
    client.batch_execute("ALTER TABLE kasmina_candidates RENAME TO elsewhere").unwrap();
    assert_in_memory(&open(&url), "does not exist");
    client.batch_execute("ALTER TABLE elsewhere RENAME TO kasmina_candidates").unwrap();
    assert_eq!(open(&url).candidates(&problem(1)).len(), 1);
}

#[test]
fn a_server_that_cannot_be_written_still_answers() {
    let Some(url) = url("") else { return };
    open(&url).record(&problem(1), &features("mlp", 64), &[candidate("kept", 10)]).unwrap();
    let copy = open(&url.replace("options=", "options=-c%20default_transaction_read_only%3Don%20"));
    assert_eq!(copy.best(&problem(1)).unwrap().schedule, "kept");
    copy.record(&problem(2), &features("mlp", 64), &[candidate("new", 10)]).unwrap();
    assert_eq!((copy.best(&problem(2)), copy.statistics().errors), (None, 1));
    assert_eq!((copy.statistics().problems, copy.statistics().fault), (1, None));
}
