//! The tables, by versions. SQLite and PostgreSQL read the same text.

/// What each version adds to the one before. Append only: a database of any earlier version is brought up to the last.
pub(super) const VERSIONS: [&str; 1] = ["
    CREATE TABLE kasmina_problems (
        problem BYTEA NOT NULL PRIMARY KEY,
        class BYTEA NOT NULL,
        kind TEXT NOT NULL,
        device TEXT NOT NULL,
        generator TEXT NOT NULL,
        compiler TEXT NOT NULL,
        row_count BIGINT NOT NULL,
        seed_count BIGINT NOT NULL,
        features TEXT NOT NULL,
        pivot_0 DOUBLE PRECISION NOT NULL,
        pivot_1 DOUBLE PRECISION NOT NULL,
        pivot_2 DOUBLE PRECISION NOT NULL,
        pivot_3 DOUBLE PRECISION NOT NULL,
        used_at BIGINT NOT NULL
    );
    CREATE INDEX kasmina_problems_by_likeness
        ON kasmina_problems (kind, device, pivot_0, pivot_1, pivot_2, pivot_3);
    CREATE INDEX kasmina_problems_by_class ON kasmina_problems (class, device);
    CREATE INDEX kasmina_problems_by_use ON kasmina_problems (used_at);
    CREATE TABLE kasmina_candidates (
        problem BYTEA NOT NULL REFERENCES kasmina_problems ON DELETE CASCADE,
        candidate BYTEA NOT NULL,
        schedule TEXT NOT NULL,
        seconds DOUBLE PRECISION NOT NULL,
        spread DOUBLE PRECISION NOT NULL,
        samples BIGINT NOT NULL,
        valid BIGINT NOT NULL,
        measured_at BIGINT NOT NULL,
        checksum BIGINT NOT NULL,
        PRIMARY KEY (problem, candidate)
    );
    CREATE INDEX kasmina_candidates_by_speed ON kasmina_candidates (problem, valid, seconds);
"];

/// The last version.
pub(super) const LATEST: i64 = VERSIONS.len() as i64;
