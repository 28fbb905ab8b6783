//! What must be true whatever comes from outside, of every file in fuzz/corpus: what the fuzz targets ask as well.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the gateway's modules, of which most is not called here"
)]

#[path = "../fuzz/checks/mod.rs"]
mod checks;
#[path = "../examples/gateway/config/mod.rs"]
mod config;
#[path = "../examples/gateway/events/mod.rs"]
mod events;
#[path = "../examples/gateway/options.rs"]
mod options;
#[path = "../examples/gateway/serving/mod.rs"]
mod serving;

use std::{fs, path::Path};

fn every_file(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        // It names itself where it fails.
        println!("{}", file.display());
        check(&fs::read(&file).unwrap());
    }
}

macro_rules! corpus {
    ($($target:ident)*) => {
        $(#[test] fn $target() { every_file(stringify!($target), checks::$target::check) })*

        #[test]
        fn every_target_is_asked() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
            let mut targets: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
            targets.sort();
            assert_eq!(targets, [$(concat!(stringify!($target), ".rs")),*]);
        }
    };
}

corpus! { config cookies deadline forward names orca server strict }

/// All that is Rust in `folder`, or the file itself.
fn sources(folder: &Path) -> String {
    if folder.is_file() {
        return fs::read_to_string(folder).unwrap();
    }
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_dir() || path.extension().is_some_and(|it| it == "rs"))
        .map(|it| sources(&it))
        .collect()
}

/// Whether a path in `text` begins with this name.
fn speaks_of(text: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let begins = |(at, _): (usize, _)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|letter| !letter.is_alphanumeric() && !"_:".contains(letter))
    };
    text.match_indices(&path).any(begins)
}

/// The targets are built apart, which takes minutes: what the gateway's modules use there has to be there too.
#[test]
fn the_targets_have_what_they_are_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = |path: &str| toml::from_str::<toml::Table>(&fs::read_to_string(root.join(path)).unwrap()).unwrap();
    let (own, apart) = (manifest("Cargo.toml"), manifest("fuzz/Cargo.toml"));
    let used: String = ["config", "events", "options.rs", "serving"]
        .map(|part| root.join("examples/gateway").join(part))
        .iter()
        .chain([&root.join("fuzz/checks")])
        .map(|part| sources(part))
        .collect();
    let tables = ["dependencies", "dev-dependencies"].map(|table| own[table].as_table().unwrap());
    let wanted = tables.iter().flat_map(|table| table.keys()).filter(|name| speaks_of(&used, &name.replace('-', "_")));
    let missing: Vec<_> = wanted.filter(|name| apart["dependencies"].get(name).is_none()).collect();
    assert!(missing.is_empty(), "fuzz/Cargo.toml lacks {missing:?}");
    assert!(speaks_of(&used, "socket2") && !speaks_of(&used, "proptest"), "nothing was looked at");
}
