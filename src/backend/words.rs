/// The beginning of words that a backend may have a say in, as far as `most` bytes go: what it says of itself can be long, and is
/// kept, logged and shown.
pub(crate) fn beginning(words: &str, most: usize) -> &str {
    &words[..words.floor_char_boundary(most)]
}
