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
