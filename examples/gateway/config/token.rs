//! What the operator has to show. It is not shown itself: neither in errors nor where a configuration is printed.

use super::value::Scalar;
use std::fmt;
use subtle::ConstantTimeEq;

#[derive(Clone)]
pub struct Token(String);

/// Below this it could be guessed by asking.
const SHORTEST: usize = 16;

impl Token {
    /// Whether `shown` is this one, in a time that says nothing about where they differ.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl Scalar for Token {
    fn read(text: &str) -> Result<Self, String> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        match text.len() {
            SHORTEST.. if is_visible => Ok(Self(text.to_owned())),
            length => {
                let letters = if is_visible { "" } else { ", some of which cannot stand in a header" };
                Err(format!(
                    "invalid token of {length} letters{letters}: expected {SHORTEST} visible ASCII letters at least, such as \
                     `openssl rand -hex 32` makes"
                ))
            }
        }
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The token in a file, as it was when the configuration was read.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenFile(pub Token);

impl Scalar for TokenFile {
    fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let text = error.to_string();
            format!("{path}: cannot be read: {}", text.split(" (os error").next().unwrap_or(&text))
        })?;
        Token::read(text.trim_ascii()).map(Self).map_err(|words| format!("{path}: {words}"))
    }
}
