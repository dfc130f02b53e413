//! The backend against plain f64 loops, through compile, load and launch.

mod adamw;
mod arguments;
mod code;
mod elements;
mod fork;
mod functions;
mod launches;
mod lifecycle;
mod programs;
mod random;
mod reference;
mod scene;
mod telemetry;
