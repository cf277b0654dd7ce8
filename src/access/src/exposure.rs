//! Decides which addresses may be served without passwords or encryption.

use std::net::SocketAddr;

/// The requirements that are not met before other machines may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Anybody could connect without a password.
    Passwords,
    /// Traffic could be read on the way.
    Encryption,
}

/// Returns what is missing to serve these addresses; `None` if only this machine reaches them, or nothing is.
/// `is_safe` is true if traffic is encrypted, or need not be.
pub fn missing(addresses: &[SocketAddr], has_passwords: bool, is_safe: bool) -> Option<Missing> {
    let is_own = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    match (is_own, has_passwords, is_safe) {
        (true, ..) | (_, true, true) => None,
        (_, false, _) => Some(Missing::Passwords),
        (_, _, false) => Some(Missing::Encryption),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_need_both() {
        let of = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>();
        for own in [&["127.0.0.1:1"][..], &["[::1]:1", "127.9.9.9:1"], &["[::ffff:127.0.0.1]:1"]] {
            assert_eq!(missing(&of(own), false, false), None, "{own:?}");
        }
        let public = ["0.0.0.0:1", "[::]:1", "192.168.0.7:1", "[::ffff:10.0.0.1]:1"];
        for all in public.map(|address| of(&["127.0.0.1:1", address])) {
            assert_eq!(missing(&all, false, true), Some(Missing::Passwords), "{all:?}");
            assert_eq!(missing(&all, false, false), Some(Missing::Passwords), "{all:?}");
            assert_eq!(missing(&all, true, false), Some(Missing::Encryption), "{all:?}");
            assert_eq!(missing(&all, true, true), None, "{all:?}");
        }
    }
}
