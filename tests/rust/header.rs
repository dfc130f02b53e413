//! `include/kasmina/kasmina.h` is what `src/ffi` says. `KASMINA_UPDATE_HEADER=1 cargo test --test header` rewrites it.

#![allow(clippy::unwrap_used)]

use kasmina::ffi::FUNCTIONS;
use std::path::Path;

/// The files whose types and functions are the ABI, in the order of the header.
const SOURCES: &[&str] = &[
    "src/error.rs",
    "src/graph/mod.rs",
    "src/layer/lifecycle.rs",
    "src/layer/grafting.rs",
    "src/lifecycle.rs",
    "src/ffi/process.rs",
    "src/ffi/error.rs",
    "src/ffi/bytes.rs",
    "src/ffi/log.rs",
    "src/ffi/tensor.rs",
    "src/ffi/blueprint.rs",
    "src/ffi/layer.rs",
    "src/ffi/checkpoint.rs",
    "src/ffi/snapshot.rs",
    "src/ffi/loss_guard.rs",
    "src/ffi/control.rs",
    "src/ffi/strategy.rs",
    "src/ffi/memory.rs",
    "src/ffi/pass.rs",
    "src/ffi/api.rs",
];

const HEADER: &str = "include/kasmina/kasmina.h";

#[test]
fn the_committed_header_is_what_the_sources_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = generate(root);
    if std::env::var_os("KASMINA_UPDATE_HEADER").is_some() {
        std::fs::write(root.join(HEADER), &generated).unwrap();
    }
    let committed = std::fs::read_to_string(root.join(HEADER)).unwrap();
    let differs = committed.lines().zip(generated.lines()).find(|(old, new)| old != new);
    assert!(
        committed == generated,
        "{HEADER} is out of date, run KASMINA_UPDATE_HEADER=1 cargo test --test header; first difference: {differs:?}"
    );
}

#[test]
fn every_declared_function_is_in_the_function_table() {
    let header = generate(Path::new(env!("CARGO_MANIFEST_DIR")));
    for declaration in declarations(&header) {
        let known = declaration.name == "kasmina_get_api" || FUNCTIONS.contains(&declaration.name);
        assert!(known, "{} is missing at the end of the table in src/ffi/api.rs", declaration.name);
    }
}

#[test]
fn the_example_in_the_guide_is_the_program_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(root.join("docs/c-api.md")).unwrap();
    let example = std::fs::read_to_string(root.join("tests/c/example.c")).unwrap();
    assert!(guide.contains(&format!("```c\n{example}```\n")), "copy tests/c/example.c into docs/c-api.md");
}

fn generate(root: &Path) -> String {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    config.header = Some(BANNER.into());
    config.after_includes = Some(versions());
    let builder = SOURCES
        .iter()
        .fold(cbindgen::Builder::new().with_config(config), |builder, source| builder.with_src(root.join(source)));
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    let header = String::from_utf8(header).unwrap();
    // Constants of Rust enumerations, such as the list of all states, are no part of the ABI.
    let header: Vec<_> = header.split("\n\n").filter(|block| !block.contains("#define kasmina_")).collect();
    let header = header.join("\n\n");
    let table = table(&header);
    let (before, after) = header.split_once("#ifdef __cplusplus\n}  // extern \"C\"").unwrap();
    format!("{before}{table}\n#ifdef __cplusplus\n}}  // extern \"C\"{after}")
}

const BANNER: &str =
    "// libkasmina: lets a neural network grow while it trains. The conventions of this ABI are in docs/c-api.md.
//
// Generated from src/ffi by cbindgen; do not edit. `make header` writes it anew.";

fn versions() -> String {
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let (patch, version) = (env!("CARGO_PKG_VERSION_PATCH"), env!("CARGO_PKG_VERSION"));
    format!(
        "\n// The version of this header; kasmina_version() is that of the library.\n\
         #define KASMINA_VERSION_MAJOR {major}\n\
         #define KASMINA_VERSION_MINOR {minor}\n\
         #define KASMINA_VERSION_PATCH {patch}\n\
         #define KASMINA_VERSION \"{version}\"\n\n\
         // What kasmina_get_api gives.\n\
         typedef struct kasmina_api kasmina_api;"
    )
}

/// The function table: the declarations of the functions as fields, in the order of the table.
fn table(header: &str) -> String {
    let declarations = declarations(header);
    let mut table = String::from(
        "// The functions above, for hosts that open the library with dlopen. Grows at its end only: a field is there if\n\
         // struct_size says so.\n\
         struct kasmina_api {\n    // Size of the table in the library that gave it.\n    size_t struct_size;\n",
    );
    for function in FUNCTIONS {
        let found = declarations.iter().find(|declaration| declaration.name == *function);
        let Declaration { name, before, after } = found.unwrap_or_else(|| panic!("{function} is not in the header"));
        let space = if before.ends_with('*') { "" } else { " " };
        let field = format!("    {before}{space}(*{}){after};", name.trim_start_matches("kasmina_"));
        table += &wrap(&field, 110);
    }
    table + "};\n"
}

/// The text, with lines broken at commas where they would be longer.
fn wrap(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for part in text.split_inclusive(", ") {
        if line.len() + part.trim_end().len() > width {
            lines += line.trim_end();
            lines.push('\n');
            line = String::from("        ");
        }
        line += part;
    }
    lines + &line + "\n"
}

struct Declaration<'a> {
    name: &'a str,
    before: String,
    after: String,
}

/// The function declarations of the header: `before name after;`, white space made single.
fn declarations(header: &str) -> Vec<Declaration<'_>> {
    let end = header.find("\nstruct kasmina_api {").unwrap_or(header.len());
    let header = &header[..end];
    let mut found = Vec::new();
    for (start, _) in header.match_indices("kasmina_") {
        let name = header[start..].split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap();
        let line = header[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let before = header[line..start].trim();
        let after = &header[start + name.len()..];
        if after.starts_with('(') && !before.is_empty() && !before.starts_with("//") {
            let after = &after[..after.find(';').unwrap()];
            let after = after.split_whitespace().collect::<Vec<_>>().join(" ");
            found.push(Declaration { name, before: before.into(), after });
        }
    }
    found
}
