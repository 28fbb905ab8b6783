//! The floors of the crate: a module imports from lower floors and from its own folder, never from a neighbour.

use std::{fs, path::Path};

/// From the ground up; modules of one line stand side by side.
const FLOORS: [&[&str]; 8] = [
    &["error", "ewma", "hash", "rng", "running", "sync"],
    &["backend"],
    &["strategy"],
    &["pool"],
    &["balance", "discover", "feedback", "health", "limit", "probing"],
    &["fleet"],
    &["http"],
    &["metrics", "proxy"],
];

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("src/{module} stands on no floor: add it to FLOORS and to the drawing in src/lib.rs"))
}

/// Every Rust file below `folder`, with its text.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The code without its comments and tests, which may name what they please.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first segments of all paths that begin with `crate::`, in `use crate::{…}` too.
fn imports(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = code[at + "crate::".len()..].trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => modules.push(std::mem::take(&mut item)),
                    _ if depth == 0 => item.push(letter),
                    _ => {}
                }
            }
            modules.push(item);
        } else {
            modules.push(rest.to_owned());
        }
    }
    let first =
        |path: String| path.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned();
    modules.into_iter().map(first).filter(|module| !module.is_empty()).collect()
}

/// `src/pool/view.rs` and `src/pool.rs` are both of `pool`.
fn module_of(file: &str) -> &str {
    let inside = file.rsplit_once("/src/").unwrap().1;
    inside.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn arrows_point_down() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, text) in files.iter().filter(|(file, _)| module_of(file) != "lib") {
        let own = module_of(file);
        assert!(!code(text).contains("super::super"), "{file}: a path that the reader of imports does not follow");
        for import in imports(&code(text)) {
            seen += 1;
            if import != own && floor(&import) >= floor(own) {
                wrong.push(format!("{file} imports {import}"));
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were found: the reader of imports is broken");
    assert!(wrong.is_empty(), "arrows that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_reads_them() {
    let text = "use crate::{backend::{A, B}, error::C, strategy};\nuse crate::pool::View; // crate::proxy\nfn f() -> crate::rng::Rng";
    assert_eq!(imports(&code(text)), ["backend", "error", "strategy", "pool", "rng"]);
}

#[test]
fn the_lower_floors_are_pure() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for (file, text) in files.iter().filter(|(file, _)| module_of(file) != "lib" && floor(module_of(file)) <= 3) {
        for forbidden in [
            ".elapsed()",
            "Instant::now",
            "SystemTime",
            "tokio::spawn",
            "tokio::time::Instant",
            "time::sleep",
            "time::timeout",
            "time::interval",
            "tokio::net",
            "std::net",
            "std::fs",
        ] {
            // The tests of the strategies stand in a file of their own.
            assert!(!code(text).contains(forbidden) || file.ends_with("/tests.rs"), "{file} uses {forbidden}");
        }
    }
}
