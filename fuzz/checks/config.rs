//! The gateway's file: what is wrong with it is said in a line that names the file, and what is right can be served.

use super::now;
use crate::{
    config::{Config, Document, Source},
    options::Options,
    serving::Plan,
};
use clap::Parser;
use std::path::Path;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let document = Some(Document::new(Path::new("gateway.toml"), text.to_owned()));
    match Config::of(&Source { options: Options::parse_from(["gateway", "--config", "gateway.toml"]), document }) {
        Err(problem) => {
            let words = problem.to_string();
            assert!(words.starts_with("gateway.toml:"), "{words:?} does not name the file");
            assert!(!words.contains('\n'), "{words:?} is more than a line");
        }
        Ok(config) => {
            assert!(!config.to_string().is_empty());
            // Nothing of it is polled, so nobody is asked anything.
            now(async { drop(Plan::new(config, None)) });
        }
    }
}
