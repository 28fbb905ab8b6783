/// The beginning of words that a backend may have a say in, as far as `most` bytes go: what it says of itself can be long, and is
/// kept, logged and shown.
pub(crate) fn beginning(words: &str, most: usize) -> &str {
    let ends = |(at, letter): (usize, char)| (at + letter.len_utf8() > most).then_some(at);
    &words[..words.char_indices().find_map(ends).unwrap_or(words.len())]
}
