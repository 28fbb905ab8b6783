/// Whether a token may have this byte (RFC 9110 §5.6.2).
pub(super) fn in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
