/// Which addresses count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}
